"""The stable codes that checks of preference data give: scripts may rely on them, their texts may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Code:
    """One kind of fault.

    Attributes:
        name: The stable code.
        kind: `refused`: the row is quarantined; `finding`: the set is doubtful as a whole; `note`: worth knowing.
        meaning: What is wrong, in words.
        fix: The usual remedy.
    """

    name: str
    kind: Literal["refused", "finding", "note"]
    meaning: str
    fix: str


_ALL = (
    Code("invalid-json", "refused", "the row is not valid JSON", "Repair the line; NaN and Infinity are not JSON."),
    Code(
        "invalid-csv",
        "refused",
        "the row does not fit the header or its quotes do not close",
        "Quote fields that hold quotes, commas or line ends.",
    ),
    Code("not-utf8", "refused", "the text is not valid UTF-8", "Convert the file, for example with iconv -t UTF-8."),
    Code(
        "wrong-type", "refused", "a value is not of the type that the layout asks for", "Correct the value or name another layout."
    ),
    Code("unknown-role", "refused", "a chat message has a role that nobody knows", "Use system, user, assistant or tool."),
    Code("prompt-missing", "refused", "there is no prompt", "Give the prompt or map its column."),
    Code("prompts-differ", "refused", "chosen and rejected answer different prompts", "Pair answers to one prompt."),
    Code("empty-prompt", "refused", "the prompt is empty or blank", "Give the prompt or drop the row."),
    Code("empty-chosen", "refused", "the chosen response is missing, empty or blank", "Drop the row."),
    Code("empty-rejected", "refused", "the rejected response is missing, empty or blank", "Drop the row."),
    Code("identical", "refused", "chosen and rejected are the same", "Drop the row: its gradient is zero."),
    Code(
        "identical-after-truncation",
        "refused",
        "chosen and rejected are the same to the model once cut",
        "Raise the length limit or drop the row.",
    ),
    Code("tie", "refused", "the two responses were judged equal", "Drop the row: there is no preference in it."),
    Code(
        "reversed-scores",
        "refused",
        "the chosen response has the lower score",
        "Swap the two, or drop the score columns if they mean something else.",
    ),
    Code("duplicate", "refused", "the same pair occurred before", "Drop the repetition; use a weight to make a pair count more."),
    Code(
        "over-long",
        "refused",
        "the row is too large to read, or nothing of a response is left once cut",
        "Shorten the row or raise the length limit.",
    ),
    Code("unsuited", "refused", "the model cannot take the row", "Do what the reason says, or drop the row."),
    Code("control-character", "refused", "a text holds a NUL character", "Remove it: it usually tells of a damaged export."),
    Code("media-missing", "refused", "a picture, sound or film that the row names is not there", "Correct the path."),
    Code(
        "media-damaged", "refused", "a picture, sound or film is damaged, cut off or of no known format", "Fetch or write it again."
    ),
    Code("media-too-large", "refused", "a picture is too large to decode", "Scale it down: a small file can unpack to any size."),
    Code(
        "media-too-small",
        "refused",
        "a picture is smaller than the least size that was asked for",
        "Drop the row: it is a placeholder.",
    ),
    Code(
        "media-outside",
        "refused",
        "a picture, sound or film is named by an address, or by a path that leaves the data's folder",
        "Fetch it into the folder, or name the folder that holds it.",
    ),
    Code("wrong-weight", "refused", "the weight is not a number of at least 0", "Correct the weight."),
    Code(
        "leakage",
        "refused",
        "the prompt is in the validation set as well",
        "The training row is left out, the validation row stays.",
    ),
    Code(
        "length-bias",
        "finding",
        "one side is longer so often that length alone predicts the choice",
        "Balance the pairs, or use a length-normalised loss.",
    ),
    Code("source-confound", "finding", "who wrote a response predicts the choice", "Mix the authors on both sides."),
    Code(
        "prompt-repeated",
        "finding",
        "most responses begin with the whole prompt",
        "Remove the prompt column; the shared start is then found as the prompt.",
    ),
    Code("contradiction", "finding", "some pairs occur in both orders", "Keep the order that most judges gave."),
    Code("truncated", "note", "some examples are cut to the length limit", "Raise the limit if the end matters."),
    Code("duplicate-prompt", "note", "some prompts occur in several pairs", "Nothing: they stay together in the split."),
)

CODES = {code.name: code for code in _ALL}
"""Every code by name."""
