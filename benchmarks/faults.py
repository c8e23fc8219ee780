#!/usr/bin/env python3
"""Breaks runs in every way that machines do, and counts those that end as if nothing had happened.

    python3 benchmarks/faults.py                 # minutes
    python3 benchmarks/faults.py --long          # an hour: ten times as many kills
    python3 benchmarks/faults.py kills sigterm   # some of: kills, saves, sigterm, disk, damage, wandb

Runs are of dpoframe's toy model of characters, with dropout, a moving or cached reference, accumulation, workers, validation
and one or two ranks by turns, through the ordinary `fit`. A run counts where its end equals that of the unbroken run of the same
recipe: the SHA-256 of every exported tensor, every tensor of the last checkpoint (the optimizer's among them), every row of
metrics.jsonl but for its speed; and where no process of it is left. Exits with 1 where one does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from safetensors.torch import load_file
from wandb_stub import Stub, watched

from dpoframe.checkpoint import CheckpointFolder, DurableCheckpointIO
from dpoframe.config import Recipe, load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import toy
from dpoframe.train.fit import fit

STEPS = 60
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "copy, dropout": {},
    "ema, background saves": {"reference": {"kind": "ema"}, "trainer": {"save_in_background": True}},
    "adapter, accumulation": {
        "modality": {"name": "toy", "dropout": 0.3, "adapter": True},
        "reference": {"kind": "adapter"},
        "trainer": {"accumulate_grad_batches": 3},
    },
    "cached, workers": {"reference": {"kind": "cached"}, "trainer": {"num_workers": 1}},
    "kto": {"loss": {"name": "kto"}},
    "two ranks": {"trainer": {"devices": 2, "strategy": "ddp_fork"}},
    "two ranks, split": {"reference": {"kind": "ema"}, "trainer": {"devices": 2, "strategy": "fsdp"}},
}
RANKS = ("two ranks", "two ranks, split")
WAIT = 60.0

Outcome = tuple[bool, str]


def main() -> int:
    """Reads the command line, runs the scenes, prints a table."""
    scenes: dict[str, Callable[[Path, random.Random, int], Iterator[Outcome]]] = {
        "kills": kills, "saves": saves, "sigterm": sigterms, "disk": full_disk, "damage": damage, "wandb": wandb
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", default=list(scenes))
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.scenes) - set(scenes):
        parser.error(f"there is no scene {', '.join(sorted(unknown))}; known: {', '.join(scenes)}")
    become_reaper()
    torch.set_num_threads(1)
    print("| | counts | of | seconds |\n|---|---|---|---|", flush=True)
    failed = []
    for name in options.scenes:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"dpoframe-{name}-") as folder:
            os.environ["DPOFRAME_CACHE"] = str(Path(folder) / "cache")
            found = list(scenes[name](Path(folder), random.Random(options.seed), 10 if options.long else 1))
        good = sum(one for one, _ in found)
        failed += [f"{name}: {told}" for one, told in found if not one]
        print(f"| {name} | {good} | {len(found)} | {time.monotonic() - started:.0f} |", flush=True)
    print("\n".join(["", *failed]))
    return 1 if failed else 0


def become_reaper() -> None:
    """Orphans of a run become children of this process, so that none goes unseen."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def recipe(variant: str = "copy, dropout", **more: Any) -> Recipe:
    """The recipe of a variant."""
    base: dict[str, Any] = {
        "modality": {"name": "toy", "dropout": 0.3},
        "data": {"name": "toy", "count": 50, "validation": 0.2},
        "plugins": ["toy"],
    }
    trainer = {
        "max_steps": STEPS, "batch_size": 4, "lr": 0.01, "accelerator": "cpu", "devices": 1, "save_every": 3, "validate_every": 7
    }  # fmt: skip
    changes = {**VARIANTS[variant], **more}
    trainer |= changes.pop("trainer", {}) | more.get("trainer", {})
    return load_recipe({**base, **changes, "trainer": trainer}, host=host())


def host() -> PluginHost:
    """The core's own parts and the toy's."""
    made = PluginHost(entry_points=[])
    made.register(toy, "toy")
    return made


def begin(one: Recipe, out: Path) -> int:
    """Starts a run, or goes on with the one that is there, in a process and session of its own; its number."""
    number = os.fork()
    if number:
        return number
    os.setsid()
    log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 70
    try:
        if one.trainer.strategy == "fsdp":
            fork_second_rank()
        code = fit(one, out, resume=(out / "recipe.yaml").is_file(), host=host()).exit_code
    except BaseException as error:
        code = getattr(error, "exit_code", 70)
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def fork_second_rank() -> None:
    """From here on there are two processes, ranks as torchrun would have started them; this one is the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "faults"}
    rank = 0 if os.fork() else 1
    os.environ.update(told, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
    rank_zero_only.rank = rank


def end(number: int, limit: float = WAIT) -> int | None:
    """Waits for a process; its exit code, negative for a signal, None where it is there after `limit` seconds."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def leftovers(limit: float = 10.0, but: int = 0) -> int:
    """Processes of a run that are there though it ended, `but` left out; they get `limit` seconds, and are ended then."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not set(children()) - {but}:
            return 0
        time.sleep(0.05)
    left = set(children()) - {but}
    for number in left:
        os.kill(number, signal.SIGKILL)
    return len(left)


def children() -> list[int]:
    """Numbers of this process's children."""
    return [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def state(out: Path) -> dict[str, Any]:
    """All that must be equal in the end."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = DurableCheckpointIO().load_checkpoint(out / "checkpoints" / f"step-{STEPS:08d}.ckpt")
    digests = {name: digest(value) for name, value in load_file(str(out / "model" / "model.safetensors")).items()}
    optimizer = {name: digest(value) for name, value in tensors(last["optimizer_states"], "optimizer")}
    plain = [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows]
    return {"weights": digests, "optimizer": optimizer, "rows": plain}


def digest(value: torch.Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested containers."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from tensors(one, f"{name}.{key}")


def unbroken(folder: Path, variant: str, known: dict[str, tuple[dict[str, Any], float]]) -> tuple[dict[str, Any], float]:
    """The end of the unbroken run of a variant, and its seconds; made once."""
    if variant not in known:
        out, started = folder / f"whole {variant}", time.monotonic()
        code = end(begin(recipe(variant), out), 300)
        if code != 0:
            sys.exit(f"The unbroken run of {variant!r} ended with {code}: {out.with_suffix('.log').read_text()[-2000:]}")
        known[variant] = state(out), time.monotonic() - started
    return known[variant]


def concluded(out: Path, variant: str, expected: dict[str, Any], told: str) -> Outcome:
    """Goes on to the end, and compares it."""
    code = end(begin(recipe(variant), out), 300)
    left = leftovers()
    if code != 0:
        return False, f"{told}: going on ended with {code}: {out.with_suffix('.log').read_text()[-300:]}"
    found = state(out)
    unlike = [name for name, value in expected.items() if found[name] != value]
    return not unlike and not left, f"{told}: {', '.join(unlike) or 'nothing'} differs, {left} processes left"


def kills(folder: Path, draw: random.Random, times: int) -> Iterator[Outcome]:
    """SIGKILL to all processes of a run at two random moments, 20 runs."""
    known: dict[str, tuple[dict[str, Any], float]] = {}
    for number in range(20 * times):
        variant = list(VARIANTS)[number % len(VARIANTS)]
        expected, seconds = unbroken(folder, variant, known)
        out, moments = folder / f"killed {number}", [draw.uniform(0.02, 0.95) * seconds for _ in range(2)]
        for moment in moments:
            process = begin(recipe(variant), out)
            time.sleep(moment)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            end(process)
            leftovers()
            if (out / "model" / "dpoframe.json").is_file():
                break
        if (out / "model" / "dpoframe.json").is_file():  # it was done before the last kill
            shutil.rmtree(out / "model")
        yield concluded(out, variant, expected, f"{variant}, killed after {', '.join(f'{moment:.2f}' for moment in moments)} s")
        shutil.rmtree(out)


def saves(folder: Path, draw: random.Random, times: int) -> Iterator[Outcome]:
    """SIGKILL while checkpoints of 8 MiB are written without a pause: the newest one that has a manifest loads."""
    for number in range(50 * times):
        place = CheckpointFolder(folder / f"{number}")
        process = os.fork()
        if not process:
            for step in range(1, 10_000):
                made = {"global_step": step, "weight": torch.full((1 << 21,), float(step))}
                DurableCheckpointIO().save_checkpoint(made, place.at(step))
                place.prune(2)
            os._exit(0)
        time.sleep(draw.uniform(0.05, 0.5))
        os.kill(process, signal.SIGKILL)
        end(process)
        place.sweep()
        newest = place.latest()
        if newest is None:
            yield not place.steps(), f"killed before the first: {place.steps()}"
            continue
        loaded = DurableCheckpointIO().load_checkpoint(newest)
        step = int(newest.stem.removeprefix("step-"))
        yield bool((loaded["weight"] == step).all()) and loaded["global_step"] == step, f"{newest} holds another step"
        shutil.rmtree(place.path)


def sigterms(folder: Path, draw: random.Random, times: int) -> Iterator[Outcome]:
    """SIGTERM to one rank or to both of two, in training: exit code 143, a checkpoint of that step, and the same end."""
    known: dict[str, tuple[dict[str, Any], float]] = {}
    for number in range(20 * times):
        variant = RANKS[number % len(RANKS)]
        expected, _ = unbroken(folder, variant, known)
        out, whom = folder / f"ended {number}", ("first", "second", "both")[number % 3]
        process = begin(recipe(variant), out)
        wanted = draw.randrange(2, STEPS - 10)
        rows = out / "metrics.jsonl"
        until = time.monotonic() + WAIT
        while time.monotonic() < until and (not rows.is_file() or rows.read_bytes().count(b"\n") < wanted):
            time.sleep(0.005)
        ranks = [process, *[int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]]
        for rank in {"first": ranks[:1], "second": ranks[1:], "both": ranks}[whom]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, signal.SIGTERM)
        code = end(process)
        left = leftovers()
        if code != 143 or left:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            leftovers()
            yield False, f"SIGTERM to {whom} after row {wanted}: exit code {code}, {left} processes left"
            continue
        yield concluded(out, variant, expected, f"SIGTERM to {whom} after row {wanted}")
        shutil.rmtree(out)


def full_disk(folder: Path, draw: random.Random, times: int) -> Iterator[Outcome]:
    """A tmpfs that fills up while the run trains: it ends with 3, the checkpoint before is whole; with room it ends the same."""
    known: dict[str, tuple[dict[str, Any], float]] = {}
    place = folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], check=False, capture_output=True).returncode:
        print("disk: left out, a tmpfs cannot be mounted here", file=sys.stderr)
        return
    try:
        # Nothing is left, or less than is asked for before anything is written.
        for variant, left in itertools.product(("copy, dropout", "ema, background saves"), (0, 3 << 20)):
            expected, _ = unbroken(folder, variant, known)
            out = place / f"{variant} {left}"
            process = begin(recipe(variant), out)
            while not (out / "checkpoints").is_dir() or len(CheckpointFolder(out / "checkpoints").steps()) < 1:
                time.sleep(0.001)
            with contextlib.suppress(OSError), (place / "ballast").open("wb") as file:
                while (free := shutil.disk_usage(place).free) > left or not left:
                    file.write(bytes(max(4096, min(free - left, 1 << 16))))
                    file.flush()
            code = end(process)
            kept = CheckpointFolder(out / "checkpoints").latest() if (out / "checkpoints").is_dir() else None
            (place / "ballast").unlink()
            if kept is None or code != 3:
                yield False, f"exit code {code}, newest checkpoint {kept}: {out.with_suffix('.log').read_text()[-300:]}"
                continue
            yield concluded(out, variant, expected, f"{variant}, after a full disk, from {kept.name}")
            shutil.rmtree(out)
    finally:
        subprocess.run(["umount", str(place)], check=False)


def damage(folder: Path, draw: random.Random, times: int) -> Iterator[Outcome]:
    """The newest checkpoint cut short, with a flipped bit, empty, or gone: the run goes on from the one before."""
    known: dict[str, tuple[dict[str, Any], float]] = {}
    expected, _ = unbroken(folder, "copy, dropout", known)

    def flip(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)

    ways: dict[str, Callable[[Path], Any]] = {
        "cut short": lambda file: os.truncate(file, file.stat().st_size // 2),
        "a flipped bit": flip,
        "empty": lambda file: os.truncate(file, 0),
        "gone": lambda file: file.unlink(),
    }
    for name, break_it in ways.items():
        out = folder / name
        shutil.copytree(folder / "whole copy, dropout", out)
        shutil.rmtree(out / "model")
        break_it(out / "checkpoints" / f"step-{STEPS:08d}.ckpt")
        yield concluded(out, "copy, dropout", expected, f"newest checkpoint {name}")


def wandb(folder: Path, draw: random.Random, times: int) -> Iterator[Outcome]:
    """W&B's server gone or silent, before the run or from its first row on: the same end, and little waiting, as a user has it."""
    file = str(toy.__file__)
    reporting = {"reporters": [{"name": "wandb", "mode": "online"}]}
    for name, more in (("plain", {}), ("reporting", reporting)):
        made = recipe(**more).to_dict()
        made["modality"] |= {"name": f"{file}:ToyModality"}
        made["data"] |= {"name": f"{file}:toy_dataset"}
        (folder / f"{name}.yaml").write_text(json.dumps(made | {"plugins": []}))
    plain = watched(folder / "plain.yaml", folder / "plain", os.environ)
    expected = state(folder / "plain")
    for late, (told, number) in itertools.product((False, True), (("gone", signal.SIGKILL), ("silent", signal.SIGSTOP))):
        out, stub = folder / f"{told} {late}", Stub(folder / f"{told} {late}.asked")
        if not late:
            stub.end(number)
        act = functools.partial(stub.end, number) if late else lambda: None
        run = watched(folder / "reporting.yaml", out, stub.environment(folder / "wandb"), act)
        left, started, more = leftovers(but=stub.process.pid), stub.started, run.first - plain.first
        stub.close()
        found = state(out) if run.code == 0 else {}
        unlike = [key for key, value in expected.items() if found.get(key) != value]
        case = f"W&B {told} {'from the first row on' if late else 'before the run'}"
        cost = f"start {more:.1f} s more, end {run.last:.1f} s after the export ({plain.last:.1f} without)"
        print(f"{case}: {cost}", file=sys.stderr, flush=True)
        yield (
            run.code == 0 and not unlike and not left and started == late and more < 15 and run.last < 30,
            (
                f"{case}: exit code {run.code}, {cost}, online {started}, {', '.join(unlike) or 'nothing'} differs, "
                f"{left} processes left: {out.with_suffix('.log').read_text()[-300:] if run.code else ''}"
            ),
        )


if __name__ == "__main__":
    sys.exit(main())
