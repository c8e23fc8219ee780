"""One self-contained HTML page: a run, an evaluation or several of them, the training, the answers, and where it all came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import UndefinedError

from dpoframe.checkpoint.durable import durable, reason, replaceable, sweep_asides
from dpoframe.errors import ConfigError, DataError, MachineError
from dpoframe.harness.gates import Gate, Judgement, judge, load_gate
from dpoframe.harness.page.reading import BASE, Material, read
from dpoframe.harness.page.rendering import render
from dpoframe.harness.page.words import lead_sentence

__all__ = ["BASE", "PAGE", "lead_sentence", "place_of", "report"]

PAGE = "report.html"


def report(run: Path | Sequence[Path], out: Path | None = None, gate: Path | None = None) -> Path:
    """Writes the page and returns its path; the same folders always give the same bytes.

    Args:
        run: A run folder (base against aligned where both were evaluated), the folder of one evaluation, or several of
            either: the first is then the baseline that each of the others is compared with.
        out: The page; report.html in the folder where None, in the working directory for several.
        gate: A gate file; its verdicts on the comparisons go into the page.

    Raises:
        DataError: A folder holds no evaluation, or several do not compare.
        ConfigError: The gate cannot be used, or the page's place is a device or a pipe.
        MachineError: The page cannot be written.
    """
    paths = [run] if isinstance(run, Path) else [Path(one) for one in run]
    page = out or place_of(paths)
    # The cheap check first: reading and comparing may take a minute.
    if page.is_dir():
        raise MachineError(f"{page} is a folder. Give the page's file with --out, for example {page / PAGE}.")
    replaceable(page)
    rules = load_gate(gate) if gate is not None else None
    text = _text(paths, rules)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{page.parent} cannot be made ({reason(error)}). Give another place with --out.") from error
    sweep_asides(page)
    with durable(page) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return page


def place_of(paths: Sequence[Path]) -> Path:
    """Where the page goes unless a place is given: into the one folder, or the working directory for several."""
    return paths[0] / PAGE if len(paths) == 1 else Path(PAGE)


def _text(paths: Sequence[Path], rules: Gate | None) -> str:
    """The page's text; DataError where a document holds something else than an evaluation writes."""
    try:
        material = read(paths)
        return render(material, judged(rules, material) if rules is not None else None)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, UndefinedError) as error:
        raise DataError(
            f"{', '.join(map(str, paths))} cannot be shown: manifest.json, results.json, scores.jsonl or samples.jsonl holds "
            f"something else than an evaluation writes ({type(error).__name__}: {error!s:.200}). Evaluate again; --debug "
            "shows where."
        ) from error


def judged(gate: Gate, material: Material) -> Judgement:
    """What a gate says of all comparisons of a page."""
    if any(len(part.comparisons) > 1 for part in material.parts):
        raise ConfigError(f"{gate.name} judges one model against one base, and this report has more. Give two runs.")
    return judge(gate, [one for part in material.parts for one in part.comparisons])
