"""Labelled texts for suites: those that a moderator can be judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dpoframe import ConfigError, DataError, MachineError, PreferencePair, RefusedRow, say
from dpoframe_moderation.forms import Answer, Form
from dpoframe_moderation.readers import exchanges, texts
from dpoframe_moderation.readers.choosing import Part

Source: TypeAlias = Literal[
    "openai_moderation", "xstest", "hatecheck", "davidson", "toxic_chat", "beavertails", "safe_rlhf", "aegis", "labelled_texts"
]  # fmt: skip

_LEFT_OUT = ("duplicate", "contradiction", "unlabelled", "several-labels", "over-long", "redacted")
"""Refusals of rows that are whole, and by which nobody can be judged. Broken rows are none of them."""

_RAW = "https://github.com"
_HAD = {
    "openai_moderation": f"curl -LO {_RAW}/openai/moderation-api-release/raw/HEAD/data/samples-1680.jsonl.gz",
    "xstest": f"curl -LO {_RAW}/paul-rottger/exaggerated-safety/raw/HEAD/xstest_prompts.csv",
    "hatecheck": f"curl -LO {_RAW}/paul-rottger/hatecheck-data/raw/HEAD/test_suite_cases.csv",
    "davidson": f"curl -LO {_RAW}/t-davidson/hate-speech-and-offensive-language/raw/HEAD/data/labeled_data.csv",
    "toxic_chat": "hub:lmsys/toxic-chat",
    "beavertails": "hub:PKU-Alignment/BeaverTails",
    "safe_rlhf": "hub:PKU-Alignment/PKU-SafeRLHF",
    "aegis": "hub:nvidia/Aegis-AI-Content-Safety-Dataset-2.0",
    "labelled_texts": "a file of your own",
}
"""How each source is had: a line that fetches the file, or its name on the hub."""


def moderation_texts(
    source: Source = "openai_moderation",
    path: str = "",
    form: Form = "label",
    answer: Answer = "verdict",
    taxonomy: str = "",
    part: Part = "all",
    max_chars: int | None = None,
    labels: Sequence[str] = (),
    text: str = "",
    verdict: str = "",
    group: Sequence[str] = (),
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
) -> Iterator[PreferencePair | RefusedRow]:
    """The texts of a data set by which a moderator can be judged, for `prompts` and `pairs` of a suite.

    Rows that are whole and say nothing that could be right or wrong are left out, and their number is told: repeated texts, texts
    whose rows contradict each other, texts without a known label. A broken row stops the suite.

    Args:
        source: The data set of that name.
        path: The file, or `hub:owner/name`.
        form: As of that data set: `label` for a classifier, `verdict` for a chat model.
        answer: Of the form `verdict`: `verdict`, `categories` or `each`.
        taxonomy: Categories to ask for in place of the data set's own.
        part: `train`, `validation` or `test`: 70, 10 and 20 in 100 texts.
        max_chars: Longer texts are left out.
        labels: Of `labelled_texts`, your own: columns that hold a category each.
        text: Of these, the column of the text.
        verdict: Of these, the column that says whether the text is unsafe.
        group: Of these, columns that tell rows apart.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.

    Raises:
        ConfigError: Columns are named of a source that has its own.
        MachineError: No path is given; the message says how the texts are had.
        DataError: There is no such file.
    """
    own = {name: value for name, value in (("labels", labels), ("text", text), ("verdict", verdict), ("group", group)) if value}
    if own and source != "labelled_texts":
        raise ConfigError(f"The columns of {source} are known: leave out {', '.join(own)}, or set `source: labelled_texts`.")
    if not path:
        raise MachineError(f"No file of texts is given. {_how(source)}")
    if not path.startswith("hub:") and not Path(path).expanduser().exists():
        raise DataError(f"{path} is not there (looked for from {Path.cwd()}). {_how(source)}")
    place = {"path": path, "split": split, "subset": subset, "revision": revision}
    choice = {"form": form, "answer": answer, "taxonomy": taxonomy, "part": part, "max_chars": max_chars}
    return _judgeable(source, {**place, **choice, **own})


def _how(source: Source) -> str:
    """What gets a source's texts."""
    had = _HAD[source]
    get = f"FILE = {had}" if had.startswith("hub:") else had
    more = ' That needs: pip install "dpoframe[datasets]"' if had.startswith("hub:") else ""
    name = "They are no part of this package. Name them with --set prompts.path=FILE (and pairs.path); they are had by:"
    return f"{name}\n  {get}{more}"


def _judgeable(source: Source, options: dict[str, Any]) -> Iterator[PreferencePair | RefusedRow]:
    left_out: Counter[str] = Counter()
    reader = getattr(texts, source, None) or getattr(exchanges, source)
    for one in reader(**options):
        if isinstance(one, RefusedRow) and one.code in _LEFT_OUT:
            left_out[one.code] += 1
        else:
            yield one
    if left_out:
        why = ", ".join(f"{count} {code}" for code, count in sorted(left_out.items()))
        say(f"{source}: {left_out.total():,} rows of {options['path']} are left out ({why}).")


# What `dpoframe plugins check` reads.
moderation_texts.example_options = {  # type: ignore[attr-defined]
    "path": str(Path(texts.__file__).parent / "examples" / "openai.jsonl")
}
