"""Weights & Biases: mirrors a run's configuration, metrics, tables and model; works without a network."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import multiprocessing
import multiprocessing.util
import netrc
import os
import re
import socket
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt

from dpoframe.config.secrets import masked
from dpoframe.errors import MissingExtraError
from dpoframe.reporter import Reporter, ReporterSession, RunInfo
from dpoframe.types import Media

CONNECT_SECONDS = 3.0
START_SECONDS = 12.0
"""Most that a start may take, so that a run of hours does not begin with a minute of silence."""

EXIT_SECONDS = 3.0
"""What W&B's own process may take to end, once this one does."""

ROWS = 500
"""Rows of a table; W&B's own pages bear no more."""

MOST_PIXELS = 2**25
"""Pixels of the largest picture that is handed over."""

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
"""What is shown as a picture."""

PICTURED = 100
"""Rows of a table with pictures, each of which is uploaded."""


@dataclass(frozen=True)
class Wandb(Reporter):
    """Reports to Weights & Biases.

    Attributes:
        project: The project's name there.
        entity: User or team; the account's default if not given.
        mode: `online`, `offline` (files only; `wandb sync` uploads them later), `disabled`, or `auto`: online where a key
            is set and the server answers, else offline. The variable WANDB_MODE decides for `auto`.
        group: Runs shown together; the run's name if not given, so that its evaluations stand beside it.
        tags: Words to find the run by.
        log_model: Whether the aligned model goes along as an artifact.
        timeout: Seconds that the end may take at most; the start takes no more than 12 of them.
    """

    project: str = "dpoframe"
    entity: str | None = None
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    group: str | None = None
    tags: tuple[str, ...] = ()
    log_model: bool = True
    timeout: Annotated[float, Gt(0)] = 30.0

    def start(self, run: RunInfo) -> ReporterSession:
        """Opens the run; a resumed run goes on under the same id."""
        began = time.monotonic()
        # W&B's reports on itself: they hold tracebacks, and a process waits for them at its exit.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("The reporter wandb", "wandb", "pip install 'dpoframe[wandb]'") from error

        mode, model = chosen_mode(self.mode), f"{plain(run.name) or 'model'}:{version_of(run)}"
        # Loading the library counts, and looking for the server.
        left = max(CONNECT_SECONDS, START_SECONDS - (time.monotonic() - began))
        settings = wandb.Settings(
            init_timeout=min(self.timeout, left), console="off", silent=True, x_disable_stats=True, x_disable_meta=True
        )
        try:
            opened = wandb.init(
                project=self.project,
                entity=self.entity,
                name=run.name if run.job == "train" else f"{run.name} {run.job}",
                group=self.group or run.name,
                job_type=run.job,
                tags=list(self.tags),
                config=masked({**run.recipe, "environment": dict(run.environment), "model_artifact": model}),
                dir=os.environ.get("WANDB_DIR") or str(run.folder),
                id=id_of(run, run.job),
                resume="allow",
                reinit="create_new",
                mode=mode,
                settings=settings,
            )
        finally:
            bound_exit()
        return WandbSession(opened, self.log_model, self.timeout, model)


@dataclass
class WandbSession(ReporterSession):
    """An open W&B run. Rows carry their own step, so that rows out of order are not dropped.

    Attributes:
        run: W&B's own object.
        log_model: Whether the model goes along.
        timeout: Seconds that anything which waits for the server may take.
        model: Name and alias of the artifact of the run's model.
        ends: By when all that waits must be done, by the monotonic clock; set by the first that does.
    """

    run: Any
    log_model: bool
    timeout: float
    model: str = ""
    ends: float = 0.0

    def __post_init__(self) -> None:
        self.run.define_metric("step")
        for stage in ("train", "validation", "evaluation", "eval"):
            self.run.define_metric(f"{stage}/*", step_metric="step")
        self.run.define_metric("*", step_metric="step")

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl, under `train/` or its stage's name."""
        stage = row.get("stage", "train")
        named = {f"{stage}/{name}": value for name, value in row.items() if name not in ("step", "stage")}
        self.run.log({**named, "step": row["step"]})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of samples, of which at most `ROWS` go along, `PICTURED` of those with pictures, which are shown as such."""
        import wandb

        pictured = any(isinstance(cell, Media) for row in rows[:ROWS] for cell in row)
        made = [column([row[place] for row in rows[: PICTURED if pictured else ROWS]]) for place in range(len(columns))]
        self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in zip(*made, strict=True)])})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final figures; a figure with parts (`value`, `ci_low`, `ci_high`, `n`) gets a column for each."""
        flat: dict[str, Any] = {}
        for name, value in values.items():
            flat |= {f"{name}/{part}": one for part, one in value.items()} if isinstance(value, Mapping) else {name: value}
        self.run.summary.update(flat)

    def artifact(self, kind: str, name: str, path: Path) -> None:
        """A folder or file, as a versioned artifact.

        A model's carries an alias of its run. A report takes the evaluations that lie beside it along, as one artifact of type
        `evaluation`, which is linked to the model it is of.
        """
        import wandb

        if kind == "model" and not self.log_model:
            return
        if kind == "report":
            made = wandb.Artifact(plain(name) or kind, type="evaluation", metadata={"model_artifact": self.model})
            for file in evaluation_files(path):
                made.add_file(str(file), name=file.relative_to(path.parent).as_posix())
            self._link()
        else:
            made = wandb.Artifact(plain(name) or kind, type=kind)
            made.add_dir(str(path)) if path.is_dir() else made.add_file(str(path))
        aliases = ["latest", self.model.rpartition(":")[2]] if kind == "model" else None
        if not within(self._left(), lambda: self.run.log_artifact(made, aliases=aliases)):
            raise TimeoutError(f"the {kind} was not taken in {self.timeout:g} s; it stays where it is")

    def _link(self) -> None:
        """Says that this run used the model. Offline, or where the server does not know it, the metadata alone says so."""
        if not self.log_model or self.run.offline:
            return

        def use() -> None:
            # The server may not have the model (its upload was cut off), and that is no reason to fail.
            with contextlib.suppress(Exception):
                self.run.use_artifact(self.model, type="model")

        within(self._left(), use)

    def _left(self) -> float:
        """Seconds that are left of those that the end may take, without what the process needs to end."""
        self.ends = self.ends or time.monotonic() + max(self.timeout - EXIT_SECONDS, self.timeout / 2)
        return max(0.0, self.ends - time.monotonic())

    def finish(self, status: str) -> None:
        """Closes the run. What cannot be uploaded in time stays on disk for `wandb sync`."""
        self.run.summary["status"] = status
        if not within(self._left(), lambda: self.run.finish(exit_code=int(status != "finished"))):
            warnings.warn(
                f"W&B has not finished uploading after {self.timeout:.0f} s; the files stay in {self.run.dir}. "
                "Upload them with `wandb sync`.",
                RuntimeWarning,
                stacklevel=2,
            )


def column(cells: Sequence[Any]) -> list[Any]:
    """A table's column as W&B takes it: of one kind, pictures as such; a column of several kinds becomes text."""
    made = [picture(one) for one in cells]
    if len({type(one).__name__ if not isinstance(one, int | float) else "number" for one in made if one is not None}) < 2:
        return made
    return [None if one is None else named(one) if isinstance(one, Media) else str(one) for one in cells]


def picture(value: Any) -> Any:
    """Media as W&B shows them: pictures; other media, and pictures that cannot be read, by their name."""
    if not isinstance(value, Media):
        return value
    import wandb

    with contextlib.suppress(Exception):  # Pillow is missing, the file is gone, or it is no picture
        if value.kind == "image":
            require_bearable(value)
            return wandb.Image(str(value.path)) if value.data is None else wandb.Image(opened(value.data))
    return named(value)


def opened(data: bytes) -> Any:
    """A picture out of its bytes, decoded, so that a broken one fails here."""
    from PIL import Image

    made = Image.open(io.BytesIO(data))
    made.load()
    return made


def require_bearable(media: Media) -> None:
    """Raises where a picture's header says that it would fill the memory once decoded, which W&B does, or is of no usual format.

    Pillow hands some formats on to other programs: PostScript to Ghostscript.
    """
    from PIL import Image

    with Image.open(str(media.path) if media.data is None else io.BytesIO(media.data), formats=FORMATS) as made:
        if made.width * made.height > MOST_PIXELS:
            raise ValueError(f"{made.width} x {made.height} pixels are too many to decode")


def named(media: Media) -> str:
    """A media's kind and name, without the place it lies in."""
    return f"[{media.kind} {media.path.name if media.path is not None else media.digest()}]"


def within(seconds: float, act: Callable[[], Any]) -> bool:
    """Whether `act` came to its end in time; if not it goes on in a thread that the process does not wait for.

    Raises:
        Whatever `act` raises in time.
    """
    raised: list[BaseException] = []

    def tried() -> None:
        try:
            act()
        except BaseException as error:  # for the thread that waits
            raised.append(error)

    acting = threading.Thread(target=tried, daemon=True)
    acting.start()
    acting.join(seconds)
    if raised:
        raise raised[0]
    return not acting.is_alive()


_bounded: set[int] = set()


def bound_exit() -> None:
    """Has W&B's own process end soon after this one, which waits for it at its exit.

    Where the server does not answer it would try again for days. What it has not uploaded lies on disk, for `wandb sync`.
    """
    connection, process = service()
    if process is None or process.pid in _bounded:
        return
    _bounded.add(process.pid)
    leaving = threading.Event()

    def watch() -> None:
        leaving.wait()
        time.sleep(EXIT_SECONDS)
        process.kill()

    def leave() -> None:
        if process.poll() is None:
            leaving.set()
        else:  # W&B's own hook would only raise
            connection._cleanup()

    def leave_fork() -> None:
        with contextlib.suppress(Exception):  # it has died
            within(EXIT_SECONDS, lambda: connection.teardown(0))
        process.kill()
        process.wait()

    if multiprocessing.parent_process() is not None:  # ends without atexit: W&B's own hook is not called either
        multiprocessing.util.Finalize(None, leave_fork, exitpriority=0)
        return
    # A thread from now on: at its exit Python begins none. Registered after W&B's own hook, this one is called before it.
    threading.Thread(target=watch, daemon=True).start()
    atexit.register(leave)


def service() -> tuple[Any, Any]:
    """W&B's connection to its own process, and that process; None for both where there is none, or W&B keeps it elsewhere."""
    import wandb

    with contextlib.suppress(Exception):
        connection: Any = wandb.setup()._connection
        return connection, connection._proc._process
    return None, None


def evaluation_files(page: Path) -> list[Path]:
    """A report, and the exports of the evaluations beside it: no stores, which hold the same once more."""
    found = [page]
    for suites in (page.parent / "eval", page.parent / "base" / "eval"):
        inside = (file for file in sorted(suites.rglob("*")) if file.is_file())
        found += [file for file in inside if not {"store", "cache"} & set(file.relative_to(suites).parts) and file.name[:1] != "."]
    return found


def id_of(run: RunInfo, job: str) -> str:
    """The id of a job of a run folder: the same whenever it goes on."""
    return hashlib.blake2b(f"{run.folder.resolve()} {job}".encode(), digest_size=8).hexdigest()


def version_of(run: RunInfo) -> str:
    """The alias under which the model of this very run is found again."""
    return f"run-{id_of(run, 'train')}"


def plain(name: str) -> str:
    """A name as artifacts may have it."""
    return re.sub(r"[^\w.-]", "-", name)


def chosen_mode(wanted: str) -> Any:
    """The mode to start in. Decided before the start, because a start that fails cannot be turned into an offline one."""
    if wanted != "auto":
        return wanted
    if named := os.environ.get("WANDB_MODE"):
        return named
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return "online" if has_key(address) and answers(address) else "offline"


def has_key(address: str) -> bool:
    """Whether an API key is set, in the environment or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(str(file)).authenticators(urllib.parse.urlsplit(address).hostname or "") is not None
    return False


def answers(address: str) -> bool:
    """Whether the server takes a connection within a few seconds."""
    parts = urllib.parse.urlsplit(address)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    found: list[bool] = []

    def attempt() -> None:
        # In a thread: looking the name up has no time limit of its own.
        with contextlib.suppress(OSError), socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS):
            found.append(True)

    trying = threading.Thread(target=attempt, daemon=True)
    trying.start()
    trying.join(CONNECT_SECONDS)
    return bool(found)
