"""Texts as a classifier reads them, in tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dpoframe import Content
from dpoframe_moderation.bare import bare
from dpoframe_moderation.classifier.labels import said

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Ids: TypeAlias = "tuple[int, ...]"
Cut: TypeAlias = Literal["keep_start", "keep_end"]

_KEPT = 4096
_PROBE = "a"


@dataclass(frozen=True)
class Encoded:
    """A text in tokens.

    Attributes:
        ids: Its tokens, those included that the tokenizer puts around it.
        truncated: Whether some were cut off.
        hidden: Invisible characters that were left out.
    """

    ids: Ids
    truncated: bool = False
    hidden: int = 0


class TextEncoder:
    """Turns texts into tokens; keeps what it tokenised last.

    Args:
        tokenizer: Any tokenizer of transformers.
        max_length: Most tokens of a text, those around it included.
        cut: Which end of a longer text stays.
        clean: Whether invisible characters are left out and look-alike forms are made one (`bare`).
        context: The model's longest sequence, where it has one; `max_length` is never above it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int, cut: Cut, clean: bool, context: int | None = None
    ) -> None:
        self.tokenizer, self.cut, self.clean = tokenizer, cut, clean
        self.limit = min(max_length, context or max_length)
        self._known: dict[str, Encoded] = {}

    def encode(self, contents: Sequence[Content]) -> list[Encoded]:
        """Each text in tokens, cut to the limit, in order."""
        texts = [said(content) for content in contents]
        wanted = [text for text in dict.fromkeys(texts) if text not in self._known]
        shown = [bare(text) if self.clean else text for text in wanted]
        for text, seen, ids in zip(wanted, shown, self._tokenise(shown), strict=True):
            room = max(1, self.limit - len(self._head) - len(self._tail))
            kept = ids[:room] if self.cut == "keep_start" else ids[-room:]
            # A text without a token, where nothing stands around it: the model must see something.
            whole = (*self._head, *kept, *self._tail) or (self.padding,)
            self._known[text] = Encoded(whole, len(kept) < len(ids), max(0, len(text) - len(seen)))
        found = [self._known[text] for text in texts]
        for text in list(self._known)[: max(0, len(self._known) - _KEPT)]:
            del self._known[text]
        return found

    def padded(self, rows: Sequence[Ids]) -> Mapping[str, Tensor]:
        """`input_ids` and `attention_mask`, both (T, longest row), padded on the right."""
        import torch

        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *(self.padding for _ in range(longest - len(row)))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    @cached_property
    def padding(self) -> int:
        """The token that fills up shorter rows."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, self.tokenizer.bos_token_id, 0)
        return int(next(token for token in known if isinstance(token, int)))

    @cached_property
    def digest(self) -> str:
        """Hex digest of the tokenizer and the rules: equal digests give equal tokens."""
        rules = json.dumps([self.limit, self.cut, self.clean, self._head, self._tail, self.padding])
        return hashlib.blake2b((rules + _state(self.tokenizer)).encode(), digest_size=16).hexdigest()

    @cached_property
    def _around(self) -> tuple[Ids, Ids]:
        """What the tokenizer puts before a text and after it."""
        inner = self._tokenise([_PROBE])[0]
        full = tuple(self.tokenizer(_PROBE)["input_ids"])
        at = next((at for at in range(len(full)) if full[at : at + len(inner)] == inner), 0)
        return full[:at], full[at + len(inner) :]

    @property
    def _head(self) -> Ids:
        return self._around[0]

    @property
    def _tail(self) -> Ids:
        return self._around[1]

    def _tokenise(self, texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        # Names of special tokens in a text are text: nobody ends a post early by writing one into it.
        made: Any = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        return [tuple(row) for row in made["input_ids"]]


def _state(tokenizer: Any) -> str:
    """All that decides a tokenizer's output, as text. Padding and truncation switches are left out: unused here."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()], sort_keys=True, default=str)
    state = json.loads(backend.to_str())
    state.update(padding=None, truncation=None)
    return json.dumps(state, sort_keys=True)
