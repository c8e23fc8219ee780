"""`dpoframe quickstart-images`: trains a small base on real digits, measures it, aligns it, measures it again, shows both.

How the base was made: `base_training.py` trains it here, from random weights, on 1,000 of scikit-learn's handwritten digits,
each with a caption such as `a handwritten seven`: first an autoencoder (pictures of 32x32 to latents of 4x8x8), then a
text encoder and a UNet together, by Stable Diffusion's own objective. It is kept in the cache folder, and a later run with the
same code, settings and digits takes it from there and says so.

The rest is what anybody would type: `dpoframe train digits-bold`, which evaluates the suite `digits` before and after, and
`dpoframe compare`. Each runs as a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe import MissingExtraError, emit, say
from dpoframe_diffusion.example.digits import INSTALL, SHARES
from dpoframe_diffusion.example.told import pacing, table

RECIPE, SUITE = "digits-bold", "digits"
AIM = "ink"
PICTURE = "grid.png"


@dataclass(frozen=True)
class Ended:
    """A command that ran: its exit code and the JSON document that it gave."""

    code: int
    document: dict[str, Any]


def run(out: Path) -> int:
    """The whole story in the run folder `out`; returns the exit code.

    A run that was cut off goes on where it stood; a finished one is shown again.

    Args:
        out: The run folder.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise MissingExtraError("The quickstart on images", "scikit-learn", INSTALL)
    started = time.monotonic()
    made = ready_base()
    resume = ["--resume"] if (out / "recipe.yaml").is_file() else []
    trained = called("train", RECIPE, "--set", f"modality.model={made['folder']}", "--out", str(out), *resume)
    if trained.code:
        return failed(trained)
    compared = called("compare", str(out))
    if compared.code:
        return failed(compared)
    conclude(out, made, trained.document, compared.document, time.monotonic() - started)
    return 0


def ready_base() -> dict[str, Any]:
    """Where the base lies and how it was made, told to the user; trained first where it is not there."""
    from dpoframe_diffusion.example.base_settings import BaseSettings
    from dpoframe_diffusion.example.kept_base import base, place

    settings = BaseSettings()
    if not place(settings).is_dir():
        say(f"Training the base from nothing, on {SHARES['train'][1]} real handwritten digits, once: a minute or two.")
    made = base(settings, pacing())
    weights = sum(made.record["weights"].values())
    when = "just now" if made.fresh else "in an earlier run, and kept"
    say(f"The base: {weights:,} weights, trained {when}, in {made.record['seconds']:.0f} s. It lies in {made.folder}.")
    return {"folder": str(made.folder), "fresh": made.fresh, **made.record}


def called(*words: str) -> Ended:
    """Runs one command of dpoframe; what it says goes to stderr as it comes."""
    say(f"$ dpoframe {shlex.join(words)}")
    with subprocess.Popen([sys.executable, "-m", "dpoframe", *words, "--json"], stdout=subprocess.PIPE, text=True) as child:
        said = answer(child)
    return Ended(child.returncode, json.loads(said) if said.strip() else {})


def answer(child: subprocess.Popen[str]) -> str:
    """What a command writes to its stdout until it ends. An interruption is passed on once the command has ended by itself."""
    try:
        return child.communicate()[0]
    except KeyboardInterrupt as stopped:
        # Ctrl-C reaches the command as well, and it finishes its step and saves; other signals reached this process alone.
        if (number := getattr(stopped, "number", None)) is not None:
            child.send_signal(number)
        child.communicate()
        raise


def failed(ended: Ended) -> int:
    """Passes on the document and the exit code of a command that failed; it has told the user why itself."""
    emit(ended.document, "")
    return ended.code


def conclude(out: Path, made: Mapping[str, Any], trained: Mapping[str, Any], compared: Mapping[str, Any], seconds: float) -> None:
    """Writes the grid and gives the result."""
    from dpoframe_diffusion.example.grid import grid
    from dpoframe_diffusion.example.legibility import read_right

    grid(out, SUITE).save(out / PICTURE)
    differences = compared["comparisons"][0]["differences"]
    real = read_right()
    document = {
        "folder": str(out),
        "report": str(out / "report.html"),
        "grid": str(out / PICTURE),
        "model": trained["model"],
        "steps": trained["steps"],
        "seconds": round(seconds, 1),
        "base": dict(made),
        "legibility_of_real_digits": real,
        "metrics": {one["metric"]: one for one in differences},
    }
    emit(document, shown(document, differences))


def shown(document: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]) -> str:
    """The result for a person."""
    made = document["base"]
    lines = [
        table([one for one in differences if one["primary"]]),
        "",
        verdict(document["metrics"]),
        "Preference accuracy is that of held-out pairs, measured against the base, whose own is 0.5 by definition.",
        f"Real held-out digits are read right by the same classifier in {document['legibility_of_real_digits']:.1%} of cases.",
        f"The base was trained on this machine, on {made['pictures']}, from random weights, in {made['seconds']:.0f} s"
        f"{'' if made['fresh'] else ' (in an earlier run)'}.",
        "",
        f"Report:   {document['report']}",
        f"Pictures: {document['grid']}",
        f"Model:    {document['model']}",
        f"Took {document['seconds'] / 60:.1f} minutes.",
    ]
    return "\n".join(lines)


def verdict(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """What the intervals say: of the aim first, of the model's health after it."""
    aim, health = metrics[AIM]["difference"], metrics["legibility"]["difference"]
    bolder = "The strokes are bolder" if aim["ci_low"] > 0 else "It is not shown that the strokes are bolder"
    if health["ci_high"] < 0:
        legible = "legibility fell"
    elif health["ci_low"] > 0:
        legible = "legibility rose"
    else:
        legible = "no change of legibility is shown"
    return (
        f"{bolder}: ink {aim['value']:+.3f} [{aim['ci_low']:+.3f}, {aim['ci_high']:+.3f}]; {legible}: "
        f"{health['value']:+.3f} [{health['ci_low']:+.3f}, {health['ci_high']:+.3f}]."
    )
