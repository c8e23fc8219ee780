"""Problems as a data set, so that a suite can name them: `prompts: {name: code_problems, path: ...}`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dpoframe import DataError, MachineError, PreferencePair, RefusedRow
from dpoframe_code.problems.problem import KEY
from dpoframe_code.problems.prompts import Form, answer_of, blank_of, prompt_of
from dpoframe_code.problems.reading import Part, read_problems

_HUMANEVAL = "https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz"
_MBPP = "https://github.com/google-research/google-research/raw/master/mbpp/mbpp.jsonl"
_GET = (
    "The benchmark is not part of this package. Get it once, and name it with --set prompts.path=FILE:\n"
    f"  HumanEval    curl -LO {_HUMANEVAL}\n"
    f"  MBPP         curl -LO {_MBPP}\n"
    "  HumanEval+   --set prompts.path=hub:evalplus/humanevalplus --set prompts.split=test\n"
    "  MBPP+        --set prompts.path=hub:evalplus/mbppplus --set prompts.split=test\n"
    'The last two need: pip install "dpoframe[datasets]"'
)


def code_problems(
    path: str = "",
    form: Form = "chat",
    part: Part = "all",
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
) -> Iterator[PreferencePair | RefusedRow]:
    """Problems of HumanEval, HumanEval+, MBPP and MBPP+, each with its own solution as the good answer.

    `chosen` is the benchmark's solution and `rejected` a function that does nothing. Pairs for training are better built from
    programs that ran, by `dpoframe data build`; and who trains on a benchmark cannot be measured by it.

    Args:
        path: The file, or `hub:owner/name`.
        form: `chat` asks in a message for a code block; `base` gives the beginning of a file.
        part: Of MBPP's own file, `prompt`, `test`, `validation` or `train` alone.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.

    Raises:
        MachineError: No path is given; the message says how the benchmarks are had.
        DataError: It is not there.
    """
    if not path:
        raise MachineError(f"No file of problems is given. {_GET}")
    if not path.startswith("hub:") and Path(path).suffix and not Path(path).expanduser().exists():
        raise DataError(f"{path} is not there (looked for from {Path.cwd()}). {_GET}")
    return _pairs(path, form, part, split, subset, revision)


def _pairs(
    path: str, form: Form, part: Part, split: str | None, subset: str | None, revision: str | None
) -> Iterator[PreferencePair | RefusedRow]:
    for one in read_problems(path, part=part, split=split, subset=subset, revision=revision):
        if isinstance(one, RefusedRow):
            yield one
            continue
        good, blank = answer_of(one, form), blank_of(one, form)
        yield PreferencePair(prompt_of(one, form), good, blank, one.id, meta={KEY: one.plain(), "form": form})


# What `dpoframe plugins check` reads: three problems of our own, in the layouts of HumanEval and MBPP.
code_problems.example_options = {"path": str(Path(__file__).parent / "example.jsonl")}  # type: ignore[attr-defined]
