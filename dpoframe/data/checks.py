"""The checks that each pair passes before it is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpoframe.data.contents import texts_in
from dpoframe.data.digest_set import DigestSet
from dpoframe.data.prompts import part_digest, prompt_digest
from dpoframe.data.rows import RowError, shown
from dpoframe.errors import DataError
from dpoframe.modality import Modality
from dpoframe.types import Content, Example, Measure, Media, PreferencePair

SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating"))
"""Pairs of meta keys that hold the two responses' scores."""


@dataclass(frozen=True)
class Checked:
    """A pair that passed.

    Attributes:
        pair: The pair.
        prompt: Digest of its prompt.
        digest: Digest of the pair.
        swapped: Digest that the pair would have with its responses swapped.
        lengths: Lengths of chosen and rejected, in `unit`s.
        unit: `units` of the modality's measure, or `characters`.
        truncated: Whether an example is cut.
    """

    pair: PreferencePair
    prompt: bytes
    digest: bytes
    swapped: bytes
    lengths: tuple[int, int]
    unit: str
    truncated: bool


@dataclass
class RowChecks:
    """Checks pairs one after another; remembers the digests of those that passed.

    Attributes:
        modality: Measures the examples, where given: what is the same or empty once cut is found by it alone.
        held_out: Prompt digests of the validation set; a pair with one of them is `leakage`.
        allow: Codes that refuse no row (`tie`, `reversed-scores`, `duplicate`, `control-character`).
        seen: Digests of the pairs that passed.
    """

    modality: Modality | None = None
    held_out: Collection[bytes] = ()
    allow: Collection[str] = ()
    seen: DigestSet = field(default_factory=DigestSet)

    def check(self, pair: PreferencePair) -> Checked:
        """The pair with what the checks found out about it.

        Raises:
            RowError: the pair must not be used.
        """
        for name in ("prompt", "chosen", "rejected"):
            self._content(getattr(pair, name), name)
        if pair.chosen == pair.rejected:
            raise RowError("identical", "Chosen and rejected are the same.")
        if "tie" not in self.allow or "reversed-scores" not in self.allow:
            self._scores(pair.meta)
        prompt, digest, swapped = _digests(pair)
        if prompt in self.held_out:
            raise RowError("leakage", "The prompt is in the validation set as well.")
        if digest in self.seen and "duplicate" not in self.allow:
            raise RowError("duplicate", "The same pair occurred before.")
        measures = self._measured(pair)
        # Only now: a pair that was refused is no earlier occurrence of another.
        self.seen.add(digest)
        cut = any(measure.truncated for measure in measures)
        if measures:
            return Checked(pair, prompt, digest, swapped, (measures[0].response, measures[1].response), "units", cut)
        return Checked(pair, prompt, digest, swapped, (_characters(pair.chosen), _characters(pair.rejected)), "characters", cut)

    def _content(self, content: Content, name: str) -> None:
        if isinstance(content, Media):
            for what, media in ((content.kind, content), ("mask", content.mask)):
                if media is not None and media.path is not None and not media.path.is_file():
                    raise RowError("media-missing", f"The {what} of {name!r} is not there: {media.path}.")
            return
        if not isinstance(content, str) and not _is_messages(content):
            raise RowError("wrong-type", f"{name!r} must be text, chat messages or media, found {shown(content)}.")
        if is_blank(content):
            raise RowError(f"empty-{name}", f"{name!r} is empty or blank.")
        for text in texts_in(content):
            self._text(text, name)

    def _text(self, text: str, name: str) -> None:
        if "\0" in text and "control-character" not in self.allow:
            raise RowError("control-character", f"{name!r} holds a NUL character at position {text.index(chr(0)) + 1}.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowError(
                "not-utf8", f"{name!r} holds bytes or a surrogate that are not UTF-8 at position {error.start + 1}."
            ) from error

    def _scores(self, meta: Mapping[str, Any]) -> None:
        for better, worse in SCORES:
            high, low = _number(meta.get(better)), _number(meta.get(worse))
            if high is None or low is None:
                continue
            if high == low and "tie" not in self.allow:
                raise RowError("tie", f"{better} and {worse} are both {high:g}.")
            if high < low and "reversed-scores" not in self.allow:
                raise RowError("reversed-scores", f"{better} is {high:g}, below {worse}, {low:g}.")

    def _measured(self, pair: PreferencePair) -> tuple[Measure, ...]:
        if self.modality is None:
            return ()
        try:
            chosen, rejected = (
                self.modality.measure(Example(pair.prompt, response, 0, pair.id)) for response in (pair.chosen, pair.rejected)
            )
        except DataError as error:
            raise RowError("unsuited", str(error)) from error
        for name, measure in (("chosen", chosen), ("rejected", rejected)):
            if measure.response <= 0:
                raise RowError("over-long", f"Nothing of {name!r} is left once the example is cut to the length limit.")
        if chosen.digest == rejected.digest:
            raise RowError(
                "identical-after-truncation",
                f"To the model both responses are the same {chosen.response} units after a prompt of {chosen.prompt}.",
            )
        return chosen, rejected


def _is_messages(content: Any) -> bool:
    return isinstance(content, Sequence) and all(isinstance(item, Mapping) for item in content)


def is_blank(content: Content) -> bool:
    """Whether there is nothing in a prompt or response: no text but white space, no picture, no tool call."""
    if isinstance(content, str):
        return not content.strip()
    if isinstance(content, Media):
        return False
    return all(_is_blank_message(message) for message in content)


def _is_blank_message(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    blank = not content.strip() if isinstance(content, str) else not content
    return blank and not message.get("tool_calls")


def _digests(pair: PreferencePair) -> tuple[bytes, bytes, bytes]:
    """Digests of the prompt, of the pair, and of the pair with its responses swapped."""
    try:
        prompt, chosen, rejected = map(part_digest, (pair.prompt, pair.chosen, pair.rejected))
        digest, swapped = (
            hashlib.blake2b(prompt + first + second, digest_size=16).digest()
            for first, second in ((chosen, rejected), (rejected, chosen))
        )
        return prompt_digest(pair.prompt), digest, swapped
    except OSError as error:
        raise RowError("media-missing", f"A media file cannot be read: {error}.") from error
    except (TypeError, ValueError) as error:
        raise RowError("wrong-type", f"The content is not made of plain values: {error}.") from error


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _characters(content: Content) -> int:
    return sum(map(len, texts_in(content)))
