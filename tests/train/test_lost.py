"""A rank or a data-loading process that is killed ends the run with a word, without a hang, and it goes on exactly."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from dpoframe import MachineError, hookimpl
from dpoframe.train.lost import lost_processes_told

STEPS = ("trainer.max_steps=12", "trainer.save_every=1")


class Killing(Callback):
    """Kills, in the sixth step, one of two ranks or one of the children that load data; once."""

    def __init__(self, whom: str) -> None:
        self.whom = whom

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        """Kills it."""
        if trainer.global_step != 5:
            return
        if self.whom == "rank" and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.whom == "worker":
            import multiprocessing

            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


class KillingPlugin:
    """Gives the callback to the first run alone."""

    def __init__(self, whom: str) -> None:
        self.callbacks: list[Callback] = [Killing(whom)]

    @hookimpl
    def dpoframe_callbacks(self, config: Any) -> list[Callback]:
        """The callback, once."""
        made, self.callbacks = self.callbacks, []
        return made


@pytest.mark.parametrize(
    ("whom", "changes", "told"),
    [
        (
            "worker",
            ("trainer.num_workers=1",),
            r"A data-loading process was ended.*--resume; fewer trainer\.num_workers",
        ),
        ("rank", ("trainer.devices=2", "trainer.strategy=ddp_fork"), r"Rank \d was ended from outside \(SIGKILL\).*--resume"),
    ],
    ids=["worker", "rank"],
)
def test_a_killed_process_ends_the_run_with_a_word(
    whom: str, changes: tuple[str, ...], told: str, host: Any, run: Any, look: Any
) -> None:
    """What to do is said, the rest of the run ends too, and it goes on to the same end."""
    whole = run("whole", *STEPS, *changes)
    host.register(KillingPlugin(whom), "killing")
    named = "plugins=[toy, parts, killing]"
    with pytest.raises(MachineError, match=told):
        run("broken", *STEPS, *changes, named)
    resumed = run("broken", *STEPS, *changes, named, resume=True)
    assert look.rows(resumed) == look.rows(whole)
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(resumed).items())


RESET = ConnectionResetError(104, "Connection reset by peer")
PEER = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:31337")


@pytest.mark.parametrize(
    ("error", "workers", "told"),
    [
        (RESET, 2, r"A data-loading process was ended from outside \(.*reset by peer\)"),
        (EOFError(), 1, r"A data-loading process was ended from outside \(EOFError\)"),
        (PEER, 0, r"Another rank has ended or cannot be reached \(.*closed by peer.*--resume"),
    ],
)
def test_what_a_lost_process_looks_like(error: Exception, workers: int, told: str) -> None:
    """A broken connection in the middle of a batch, and gloo's words for a rank that is gone."""
    with pytest.raises(MachineError, match=told), lost_processes_told(workers):
        raise error


@pytest.mark.parametrize("error", [RESET, EOFError(), RuntimeError("shapes do not fit")], ids=repr)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    """Without data-loading processes a broken connection is somebody else's."""
    with pytest.raises(type(error)) as found, lost_processes_told(0):
        raise error
    assert found.value is error
