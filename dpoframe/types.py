"""The values that travel through dpoframe, from a raw preference to a score.

All of them are frozen dataclasses. Tensors appear only in annotations, so this module imports no torch.
Shapes use N for examples, B for pairs; a batch of B pairs is N = 2B examples, chosen first, rejected after.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Media:
    """A picture, sound or film that stands where a text could stand.

    Exactly one of `path` and `data` is given. The file is not opened here: a modality decodes it in `collate`.

    Attributes:
        kind: What it is.
        path: The file.
        data: The file's bytes.
        mask: A grey picture of the same frame that says where a response counts, and how much: black not at all. A modality
            that can weigh parts of a picture reads it, others do not.
    """

    kind: Literal["image", "audio", "video"]
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    mask: Media | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.data is None):
            raise ValueError("Media takes exactly one of path= and data=")
        if self.mask is not None and (self.mask.kind != "image" or self.mask.mask is not None):
            raise ValueError(f"A mask is a picture without a mask of its own, found {self.mask!r}")

    def digest(self) -> str:
        """Hex digest of the media's bytes (of the file's content where a path is given), and of the mask's where it has one."""
        content = self.data if self.data is not None else Path(str(self.path)).read_bytes()
        own = hashlib.blake2b(content, digest_size=16)
        if self.mask is not None:
            # With a name of its own (`person`), so that no bytes of a plain picture have this digest.
            own = hashlib.blake2b(own.digest() + bytes.fromhex(self.mask.digest()), digest_size=16, person=b"masked")
        return own.hexdigest()


Message: TypeAlias = Mapping[str, Any]
"""One chat message: at least `role` and `content`."""

Content: TypeAlias = "str | Sequence[Message] | Media"
"""What a prompt or a response may be: text, chat messages, or media."""


def as_text(content: Content) -> str:
    """A prompt or response as plain text, for messages and reports: chat messages become `role: content` lines."""
    if isinstance(content, str):
        return content
    if isinstance(content, Media):
        return f"[{content.kind} {content.path or content.digest()}]"
    return "\n".join(f"{message.get('role', '?')}: {message.get('content', '')}" for message in content)


def content_digest(*parts: Content) -> str:
    """Hex digest of prompts and responses, equal for equal content in any process and on any machine."""
    plain = [{"media": part.kind, "digest": part.digest()} if isinstance(part, Media) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, default=dict)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class PreferencePair:
    """One comparison: for `prompt`, a judge preferred `chosen` over `rejected`.

    Attributes:
        prompt: What was asked.
        chosen: The preferred output.
        rejected: The other output.
        id: Stable name of the pair; a digest of the three contents unless given.
        weight: Multiplies the pair's loss; the step's loss is still divided by the number of pairs.
        meta: Anything the source knew besides (author, scores, row number); never seen by the model.
    """

    prompt: Content
    chosen: Content
    rejected: Content
    id: str = ""
    weight: float = 1.0
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", content_digest(self.prompt, self.chosen, self.rejected))


@dataclass(frozen=True)
class RefusedRow:
    """A row that a data set could not turn into a pair. Data sets yield it in place of the pair; it is quarantined.

    Attributes:
        source: The file or data set.
        row: Number of the row in it, from 1.
        code: A stable code of the fault, such as `empty-chosen`.
        reason: The fault in words, with what was found and what was expected.
    """

    source: str
    row: int
    code: str
    reason: str


@dataclass(frozen=True)
class Example:
    """One `(prompt, response)` to score. The two examples of a pair carry the same `pair_id` and the same `seed`.

    `seed` is all the randomness a modality may use for it: noise and timesteps drawn in `collate` from it alone
    make scores independent of batch size, order, rank and resume. `finished` is False for an answer that was cut off:
    a modality that scores the end of a response as part of it leaves that out.
    """

    prompt: Content
    response: Content
    seed: int
    pair_id: str
    finished: bool = True


@dataclass(frozen=True)
class Measure:
    """How large an example is to the model, and what the model will see of it.

    Attributes:
        prompt: Units of the prompt after truncation (tokens for text).
        response: Units of the response after truncation.
        digest: Digest of exactly what reaches the model after truncation: equal digests, equal scores.
        prompt_digest: The same for the prompt alone.
        response_digest: The same for the response alone.
        truncated: Whether anything was cut off.
    """

    prompt: int
    response: int
    prompt_digest: str
    response_digest: str
    truncated: bool = False

    @property
    def digest(self) -> str:
        """Digest of prompt and response together."""
        return hashlib.blake2b(f"{self.prompt_digest}/{self.response_digest}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Request:
    """One output wanted from a model: `settings` are the generation settings (max_new_tokens, temperature, ...)."""

    id: str
    prompt: Content
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One output of a model.

    Attributes:
        id: The request's id.
        prompt: The request's prompt.
        response: What the model gave.
        finished: Whether the model ended by itself; False where a limit cut it off.
        detail: Numbers that go with it: `length` (units of the response) and what evaluators asked for.
        meta: What the suite knew about the prompt (an expected answer, a category).
    """

    id: str
    prompt: Content
    response: Content
    finished: bool = True
    detail: Mapping[str, float] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """What a modality says of N examples.

    Attributes:
        value: (N,) float; a log-probability in nats summed over the response, or minus half a denoising error.
        length: (N,) units the value was summed over (response tokens; 1 for diffusion, whose value is a mean).
        detail: further (N,) tensors by name, such as `shared` (see `Modality.provides`). One that is (N, D), such as an image's
            `residual`, is seen by the loss of its micro-batch alone: it is neither gathered nor kept (see `Loss.vectors`).
    """

    value: Tensor
    length: Tensor
    detail: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class PairScores:
    """What a loss sees of B pairs: every field (B,), details (B,) or (B, D).

    `detail` holds, per named detail of the modality, `policy_chosen/<name>`, `policy_rejected/<name>`,
    `reference_chosen/<name>` and `reference_rejected/<name>`; facts about the whole optimizer step under `step/<name>`
    (0-dim); and what a loss asked to remember under `state/<name>`.
    """

    policy_chosen: Tensor
    policy_rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    detail: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_scores(cls, policy: Scores, reference: Scores, detail: Mapping[str, Tensor] | None = None) -> PairScores:
        """Splits scores of `[chosen..., rejected...]` (2B,) in two (B,) halves; `detail` is added as it is."""
        half = policy.value.shape[0] // 2
        split = {
            f"{who}_{side}/{name}": part
            for who, scores in (("policy", policy), ("reference", reference))
            for name, tensor in scores.detail.items()
            for side, part in (("chosen", tensor[:half]), ("rejected", tensor[half:]))
        }
        return cls(
            policy_chosen=policy.value[:half],
            policy_rejected=policy.value[half:],
            reference_chosen=reference.value[:half],
            reference_rejected=reference.value[half:],
            chosen_length=policy.length[:half],
            rejected_length=policy.length[half:],
            detail={**split, **(detail or {})},
        )

    @property
    def chosen_logratio(self) -> Tensor:
        """(B,) log pi(y+) - log ref(y+)."""
        return self.policy_chosen - self.reference_chosen

    @property
    def rejected_logratio(self) -> Tensor:
        """(B,) log pi(y-) - log ref(y-)."""
        return self.policy_rejected - self.reference_rejected

    def replace(self, **changes: Any) -> PairScores:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)
