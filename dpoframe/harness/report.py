"""One self-contained HTML page of a run: base against aligned, the training, the answers, and where it all came from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from dpoframe.errors import DataError
from dpoframe.harness import charts
from dpoframe.harness.compare import Comparison, Difference, SideBySide, compare
from dpoframe.harness.folder import NOT_APPLICABLE, EvalFolder
from dpoframe.types import as_text

BASE = "base"
"""Folder inside a run that holds the evaluations of the model before training."""

CURVES = {
    "Loss": ("loss",),
    "Reward margin": ("rewards/margins",),
    "Training pairs preferred rightly": ("rewards/accuracies",),
    "Log-probability": ("logps/chosen", "logps/rejected"),
    "Reward": ("rewards/chosen", "rewards/rejected"),
    "Gradient norm": ("grad_norm",),
}
"""Training curves: title and the columns of metrics.jsonl."""

SHOWN = 12
"""Answers shown open; the rest stand folded below them."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds that a report tells of."""

    folder: Path
    recipe: str
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Comparison]


def report(run: Path, out: Path | None = None) -> Path:
    """Writes the page of a run folder and returns its path; the same folder always gives the same bytes.

    Args:
        run: A run folder with evaluations under eval/ and base/eval/.
        out: The page; report.html in the run folder where None.

    Raises:
        DataError: No suite was evaluated both before and after.
    """
    page = out or run / "report.html"
    text = render(read_run(run))
    page.parent.mkdir(parents=True, exist_ok=True)
    partial = page.with_name(f".{page.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(page)
    return page


def read_run(folder: Path) -> Run:
    """Reads a run folder; everything but the evaluations may be missing."""
    suites = sorted(path.name for path in (folder / "eval").glob("*") if (folder / BASE / "eval" / path.name).is_dir())
    if not suites:
        raise DataError(f"{folder} holds no suite that was evaluated before and after training (eval/ and {BASE}/eval/).")
    recipe = folder / "recipe.yaml"
    return Run(
        folder=folder,
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        environment=_json(folder / "environment.json"),
        data=_json(folder / "data" / "summary.json"),
        rows=_rows(folder / "metrics.jsonl"),
        comparisons=[compare(folder / BASE / "eval" / name, folder / "eval" / name) for name in suites],
    )


def render(run: Run) -> str:
    """The page's HTML. Everything that a model or a file says is escaped by the template."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dpoframe.harness", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=charts.number, signed=charts.signed, text=as_text, pretty=_pretty)
    environment.finalize = _printable
    environment.globals.update(bars=_bars, forest=_forest, curves=_curves(run.rows), unscored=_unscored, lead=lead_sentence)
    environment.globals.update(arranged=_arranged, shown=SHOWN, healthy=is_health)
    return environment.get_template("report.html").render(run=run, facts=_facts(run), title=_title(run))


def lead_sentence(comparison: Comparison) -> str:
    """What came out, in a sentence, from the intervals alone."""
    aims = [one for one in comparison.differences if not is_health(comparison, one) and "/" not in one.metric]
    better = [one.metric for one in aims if one.verdict == "better"]
    worse = [one.metric for one in comparison.differences if one.verdict == "worse"]
    unclear = [one.metric for one in aims if one.verdict == "no clear difference"]
    parts = [
        f"The aligned model is better on {_listed(better)}." if better else "No figure is clearly better than the base's.",
        f"It is worse on {_listed(worse)}." if worse else "No figure is clearly worse.",
        f"No clear difference on {_listed(unclear)}." if unclear else "",
    ]
    return " ".join(filter(None, parts))


def is_health(comparison: Comparison, one: Difference) -> bool:
    """Whether a metric watches for damage rather than for the aim: its evaluator's first is not better when higher."""
    first = next((other for other in comparison.differences if other.metric == one.metric.partition("/")[0]), one)
    return first.better != "higher"


def _listed(names: Sequence[str]) -> str:
    plain = [name.replace("_", " ") for name in names]
    return plain[0] if len(plain) == 1 else f"{', '.join(plain[:-1])} and {plain[-1]}"


def _title(run: Run) -> str:
    return f"{', '.join(one.suite for one in run.comparisons)}: base against aligned"


def _facts(run: Run) -> list[tuple[str, Any]]:
    """What stands under the title, where it is known."""
    content = yaml.safe_load(run.recipe) if run.recipe else None
    recipe: Mapping[str, Any] = content if isinstance(content, dict) else {}
    modality, trainer = recipe.get("modality") or {}, recipe.get("trainer") or {}
    losses = recipe.get("loss") or []
    named = [
        f"{one['weight']} {one['name']}" if "weight" in one else one["name"]
        for one in (losses if isinstance(losses, list) else [losses])
    ]
    known = {
        "model": modality.get("model") or modality.get("name"),
        "loss": " + ".join(named),
        "logged steps": len({row["step"] for row in run.rows if row.get("stage", "train") == "train" and "step" in row}) or None,
        "pairs a step": trainer.get("batch_size"),
        "training pairs": run.data.get("train"),
        "seed": recipe.get("seed"),
    }
    return [(name, value) for name, value in known.items() if value not in (None, "")]


# C0 and C1 controls but for newline and tab, and the marks that reverse the order of text on a screen.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def _printable(value: Any) -> Any:
    """Text with control characters written out; what is markup already is left as it is."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), value)
    return value


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)


def _bars(comparison: Comparison, one: Difference) -> str:
    scales = {name: scale for spec in comparison.after["evaluators"].values() for name, scale in spec["metrics"].items()}
    return charts.interval_bars(one, scales[one.metric])


def _forest(comparison: Comparison, one: Difference) -> str:
    shares = [other for other in comparison.differences if other.unit == "share"]
    return charts.forest_row(one, charts.reach(shares if one.unit == "share" else [one]))


def _curves(rows: Sequence[Mapping[str, Any]]) -> Sequence[tuple[str, Sequence[str], str]]:
    """(title, names, drawing) of each curve that has data."""
    train = [row for row in rows if row.get("stage", "train") == "train"]
    drawn = []
    for title, names in CURVES.items():
        lines = {name: [(float(row["step"]), float(row[name])) for row in train if _plain(row.get(name))] for name in names}
        if all(len(line) > 1 for line in lines.values()):
            drawn.append((title, names, charts.curve(lines)))
    return drawn


def _plain(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _arranged(comparison: Comparison) -> list[SideBySide]:
    """Answers with the suite's first evaluator's gains first, then its losses, then the rest; each in the suite's order."""
    order = comparison.after["order"]

    def rank(one: SideBySide) -> int:
        for name in order:
            before, after = one.scores.get(name, (None, None))
            if before is not None and after is not None:
                return 0 if after > before else 1 if after < before else 2
        return 3

    gains, losses, *rest = ([one for one in comparison.answers if rank(one) == place] for place in range(4))
    # A loss must not hide under the fold behind many gains.
    share = max(0, SHOWN - min(len(losses), SHOWN // 3))
    return [*gains[:share], *losses, *gains[share:], *rest[0], *rest[1]]


def _unscored(comparison: Comparison, folder: Path) -> list[tuple[str, str, str, str]]:
    """(model, evaluator, sample, reason) of everything an evaluator failed on."""
    return [
        (model, one.evaluator, one.id, one.reason)
        for model, path in (("base", folder / BASE), ("aligned", folder))
        for one in EvalFolder(path / "eval" / comparison.suite).scores()
        if one.values is None and one.reason != NOT_APPLICABLE
    ]


def _json(file: Path) -> Mapping[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _rows(file: Path) -> list[Mapping[str, Any]]:
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
