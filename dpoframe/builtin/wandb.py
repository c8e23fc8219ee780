"""Weights & Biases: mirrors a run's configuration, metrics, tables and model; works without a network."""

from __future__ import annotations

import contextlib
import hashlib
import netrc
import os
import re
import socket
import threading
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt

from dpoframe.errors import MissingExtraError
from dpoframe.reporter import Reporter, ReporterSession, RunInfo

CONNECT_SECONDS = 3.0


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
        timeout: Seconds that the start, and the end, may take at most.
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
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("The reporter wandb", "wandb", "pip install 'dpoframe[wandb]'") from error

        settings = wandb.Settings(init_timeout=self.timeout, console="off", silent=True, x_disable_stats=True, x_disable_meta=True)
        opened = wandb.init(
            project=self.project,
            entity=self.entity,
            name=run.name if run.job == "train" else f"{run.name} {run.job}",
            group=self.group or run.name,
            job_type=run.job,
            tags=list(self.tags),
            config={**run.recipe, "environment": dict(run.environment)},
            dir=os.environ.get("WANDB_DIR") or str(run.folder),
            id=hashlib.blake2b(f"{run.folder.resolve()} {run.job}".encode(), digest_size=8).hexdigest(),
            resume="allow",
            reinit="create_new",
            mode=chosen_mode(self.mode),
            settings=settings,
        )
        return WandbSession(opened, self.log_model, self.timeout)


@dataclass
class WandbSession(ReporterSession):
    """An open W&B run. Rows carry their own step, so that rows out of order are not dropped."""

    run: Any
    log_model: bool
    timeout: float

    def __post_init__(self) -> None:
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl, under `train/` or its stage's name."""
        stage = row.get("stage", "train")
        named = {f"{stage}/{name}": value for name, value in row.items() if name not in ("step", "stage")}
        self.run.log({**named, "step": row["step"]})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of samples."""
        import wandb

        self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final figures."""
        self.run.summary.update(dict(values))

    def artifact(self, kind: str, name: str, path: Path) -> None:
        """A folder or file, as a versioned artifact."""
        import wandb

        if kind == "model" and not self.log_model:
            return
        made = wandb.Artifact(re.sub(r"[^\w.-]", "-", name) or kind, type=kind)
        if path.is_dir():
            made.add_dir(str(path))
        else:
            made.add_file(str(path))
        self.run.log_artifact(made)

    def finish(self, status: str) -> None:
        """Closes the run. What cannot be uploaded in time stays on disk for `wandb sync`."""
        self.run.summary["status"] = status
        closing = threading.Thread(target=self.run.finish, kwargs={"exit_code": int(status != "finished")}, daemon=True)
        closing.start()
        closing.join(self.timeout)
        if closing.is_alive():
            warnings.warn(
                f"W&B has not finished uploading after {self.timeout:.0f} s; the files stay in {self.run.dir}. "
                "Upload them with `wandb sync`.",
                RuntimeWarning,
                stacklevel=2,
            )


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
