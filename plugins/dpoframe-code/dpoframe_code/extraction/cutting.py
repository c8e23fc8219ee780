"""Where an answer ends that goes on after its code."""

from __future__ import annotations

from collections.abc import Sequence

from dpoframe_code.extraction.source import LONGEST, parsed

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\nassert ", "\nimport ", "\nfrom ", "\n```", '\n"""', "\n'''")
"""What ends the continuation of a function by a base model, after HumanEval's own (Chen et al. 2021, section 2)."""

ENDS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<file_sep>", "<EOT>", "</s>", "[DONE]")
"""What ends any answer: the tokens that models end with, where they were written out."""

_THOUGHT = "</think>"
_LONGEST_TEXT = 200_000
_TRIES = range(4, 65)
# Characters parsed in all tries together, but for the least number of them.
_PARSED = 200_000


def tidied(text: str) -> str:
    """An answer with plain line ends, without marks of its beginning and end, and without what was only thought."""
    text = text.rpartition(_THOUGHT)[2][:_LONGEST_TEXT].replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    return cut(text, ENDS)


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stops."""
    return text[: min([place for stop in stops if (place := text.find(stop)) >= 0], default=len(text))]


def longest_code(text: str) -> str:
    """The longest beginning of a text that is Python and ends with a whole statement; empty where there is none.

    What stops being Python (prose after the code, a statement that was cut off) is left out with the top-level statement
    it stands in.
    """
    lines = text[:LONGEST].split("\n")
    for _ in range(min(_TRIES[-1], max(_TRIES[0], _PARSED // (1 + len(text))))):
        tree, wrong = parsed("\n".join(lines))
        if tree is not None:
            return "\n".join(lines)
        # A statement that never ends is found wrong at its beginning, or at the end of all.
        last = next((number for number in range(min(wrong, len(lines)) - 1, 0, -1) if _begins(lines[number])), 0)
        if last == 0:
            return ""
        lines = lines[:last]
    return ""


def _begins(line: str) -> bool:
    """Whether a top-level statement, or prose, begins in a line."""
    return bool(line) and not line[0].isspace() and line[0] not in ")]}"
