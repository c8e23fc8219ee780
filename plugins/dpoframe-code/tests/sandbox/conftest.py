"""Sandboxes of both tiers, and a look at the host before and after."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dpoframe_code.sandbox import Call, Limits, Sandbox, Status, Tier, probe
from dpoframe_code.sandbox.machine import lacking

QUICK = Limits(cpu_seconds=2, wall_seconds=20, memory_bytes=256 << 20)


@pytest.fixture(scope="module", params=list(Tier), ids=lambda tier: tier.name.lower())
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A warm sandbox in each tier that this machine can have."""
    if lacking(request.param) or probe(request.param).tier is None:
        pytest.skip(str(probe(request.param)))
    with Sandbox(QUICK, tier=request.param) as made:
        yield made


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                found[int(entry.name)] = parent, entry.joinpath("cmdline").read_text()
            except OSError:
                continue
    return found


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    known = processes()
    below: set[int] = set()
    while more := {each for each, (parent, _) in known.items() if parent in below | {pid}} - below:
        below |= more
    return below


def zygote_of(sandbox: Sandbox) -> int:
    """The process that a sandbox has started."""
    assert sandbox._zygote is not None
    return sandbox._zygote.pid


def inner(bubblewrap: int) -> set[int]:
    """Processes in a sandbox beside bubblewrap's own two and the zygote."""
    known = processes()
    below = descendants(bubblewrap)
    first = {pid for pid in below if known.get(pid, (0, ""))[0] == bubblewrap}
    second = {pid for pid in below if known.get(pid, (0, ""))[0] in first}
    assert len(first) == len(second) == 1
    return below - first - second


def orphans() -> set[int]:
    """Processes of any sandbox that have lost their parent."""
    return {pid for pid, (parent, line) in processes().items() if parent == 1 and "dpoframe_code.sandbox.inside" in line}


@dataclass
class Host:
    """What a program must leave alone."""

    folder: Path
    tcp: socket.socket
    unix: socket.socket
    datagrams: socket.socket

    @property
    def bait(self) -> list[object]:
        """What attacks are told: folder, secret file, pid, port, path of a unix socket, abstract name."""
        return [
            str(self.folder),
            str(self.folder / "secret"),
            os.getpid(),
            self.tcp.getsockname()[1],
            self.unix.getsockname(),
            self.datagrams.getsockname().decode().lstrip("\0"),
        ]

    def state(self) -> dict[str, object]:
        """Everything that an attack might have changed."""
        secret = self.folder / "secret"
        seen = secret.lstat()
        return {
            "folder": sorted(entry.name for entry in self.folder.iterdir()),
            "secret": (secret.read_text(), seen.st_mode, seen.st_uid, seen.st_mtime_ns),
            "places": [sorted(entry.name for entry in Path(each).iterdir() if "trace" in entry.name) for each in PLACES],
            "environment": dict(os.environ),
            "limits": subprocess.run(["/bin/sh", "-c", "ulimit -a"], capture_output=True, check=True).stdout,
            "hostname": socket.gethostname(),
            "orphans": orphans(),
        }

    @contextlib.contextmanager
    def watched(self, sandbox: Sandbox) -> Iterator[None]:
        """Checks that what happens within changes nothing here, leaves no process, and does not spoil the next program."""
        before = self.state()
        yield
        below = descendants(zygote_of(sandbox)) if sandbox.tier is Tier.LANDLOCK else inner(zygote_of(sandbox))
        assert below == set()
        # Another test may just be killing a sandbox of its own.
        deadline = time.monotonic() + 5
        while (now := self.state()) != before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert now == before
        (after,) = sandbox.run("def double(x): return 2 * x", [Call("double", (21,))])
        assert (after.status, after.value) == (Status.RETURNED, 42)

    def touched(self) -> list[str]:
        """Sockets of the host on which something has arrived."""
        for each in (self.tcp, self.unix, self.datagrams):
            each.setblocking(False)
        return [name for name, each in (("tcp", self.tcp), ("unix", self.unix)) if _accepts(each)] + (
            ["datagrams"] if _receives(self.datagrams) else []
        )


PLACES = ("/tmp", "/var/tmp", "/dev/shm", str(Path.home()), "/")


def _accepts(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _receives(datagrams: socket.socket) -> bool:
    try:
        datagrams.recv(100)
    except BlockingIOError:
        return False
    return True


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A folder that anybody may write to, with a secret in it, and sockets that listen."""
    folder = tmp_path_factory.mktemp("host")
    folder.chmod(0o777)
    (folder / "secret").write_text("the secret of the host")
    (folder / "secret").chmod(0o666)
    name = f"\0dpoframe-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        unix.bind(str(folder / "socket"))
        unix.listen()
        datagrams.bind(name)
        yield Host(folder, tcp, unix, datagrams)
