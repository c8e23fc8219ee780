"""The outer end of the zygote."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence

from dpoframe_code.sandbox.launch import Launch

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


class StartError(Exception):
    """The zygote did not start, for the reason in the message."""


class ZygoteError(Exception):
    """The zygote has died."""


class WarmZygote:
    """A running zygote.

    Args:
        launch: How to start it.

    Attributes:
        broken: Set where it was found dead, or not to do its work, which may show before the process is gone.

    Raises:
        StartError: It did not become ready.
    """

    def __init__(self, launch: Launch) -> None:
        self._control, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owner = os.getpid()
        self._sending = threading.Lock()
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self.broken = False
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        # The kernel ends the zygote with the thread that started it: this thread does nothing else, and lives as long.
        self._keeper = threading.Thread(target=self._keep, args=(launch, inner), daemon=True, name="sandbox-zygote")
        self._keeper.start()
        self._started.wait()
        inner.close()
        try:
            self._await_ready(launch)
        except BaseException:
            self.close()
            raise

    def _keep(self, launch: Launch, inner: socket.socket) -> None:
        try:
            self._process = subprocess.Popen(
                [*launch.argv, str(inner.fileno())],
                env=launch.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=[inner.fileno()],
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            self._failure = error
            return
        finally:
            self._started.set()
        self._process.wait()

    def _await_ready(self, launch: Launch) -> None:
        """Sends the configuration and waits for the word."""
        if self._failure is not None:
            raise StartError(str(self._failure))
        self._control.settimeout(_START_SECONDS)
        try:
            self._control.send(json.dumps(launch.config).encode())
            word = self._control.recv(64)
        except OSError as error:
            word = str(error).encode()
        if word != b"ready":
            raise StartError(self._words() or f"no word from {launch.argv[0]} ({word.decode() or 'it ended'})")
        self._control.settimeout(None)

    def _words(self) -> str:
        """The last line the zygote or bubblewrap wrote to standard error."""
        self._keeper.join(1.0)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def alive(self) -> bool:
        """Whether it runs, and is this process's own (after a fork it is the parent's)."""
        mine = self._owner == os.getpid() and not self.broken
        return mine and self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that was started: the zygote itself, or bubblewrap around it."""
        assert self._process is not None
        return self._process.pid

    def spawn(self, request: dict[str, object], descriptors: Sequence[int]) -> None:
        """Asks for a child with these descriptors: wire, output, status.

        Raises:
            ZygoteError: The zygote is not there any more.
        """
        with self._sending:
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
            except OSError as error:
                raise ZygoteError(str(error)) from error

    def close(self) -> None:
        """Ends the zygote and all its children."""
        self._control.close()
        if self._owner != os.getpid() or self._process is None:
            return
        self._keeper.join(_STOP_SECONDS)
        if self._keeper.is_alive():
            self._process.kill()
            self._keeper.join(_STOP_SECONDS)
        self._said.close()
