"""Answers from vLLM on the model's own weights, where it is installed."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from dpoframe.config.secrets import masked
from dpoframe.errors import ConfigError, MissingExtraError
from dpoframe.evaluator import Available, Refused
from dpoframe.harness.backends.base import Backend
from dpoframe.harness.backends.settings import translated
from dpoframe.types import Request, Sample

if TYPE_CHECKING:
    from dpoframe.harness.subject import Subject
    from dpoframe.modality import Modality

INSTALL = 'pip install "dpoframe[vllm]"'


@dataclass(frozen=True)
class Vllm(Backend):
    """Writes the model into a temporary folder in its ecosystem's layout, and lets vLLM answer from there.

    It has the modality's `save`, so an adapter is written merged. vLLM takes memory of its own beside the model's.

    Attributes:
        engine: Arguments of `vllm.LLM`, such as `tensor_parallel_size`, `dtype`, `gpu_memory_utilization`, `max_model_len`.
        batch: Requests handed over at a time; what is answered is kept after each.
    """

    engine: Mapping[str, Any] = field(default_factory=dict)
    batch: Annotated[int, Ge(1)] = 256

    kind: ClassVar[str] = "vllm"

    def probe(self) -> Available | Refused:
        """Whether vLLM is installed."""
        if importlib.util.find_spec("vllm") is None:
            return Refused("the package 'vllm' is not installed", f"Install it with: {INSTALL}")
        return Available()

    def draws(self, modality: Modality, settings: Mapping[str, Any]) -> bool:
        """Whether there is a temperature."""
        return bool(translated(settings, "vLLM")["temperature"] > 0)

    def answers(self, subject: Subject, requests: Sequence[Request]) -> Iterator[Sample]:
        """One sample a request. Each has its request's seed, so a sample does not depend on its neighbours."""
        if not requests:
            return
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError("backend.kind vllm", "vllm", INSTALL)
        import vllm

        if self.engine.get("trust_remote_code"):
            told = f"backend.engine.trust_remote_code: code that {subject.name} brings runs in vLLM."
            warnings.warn(told, RuntimeWarning, stacklevel=2)
        with tempfile.TemporaryDirectory(prefix="dpoframe-vllm-") as place:
            engine = vllm.LLM(model=_written(subject, Path(place)), **self.engine)
            for start in range(0, len(requests), self.batch):
                yield from _asked(engine, vllm.SamplingParams, subject.modality, requests[start : start + self.batch])

    def digest(self, subject: Subject) -> str:
        """The subject's, with vLLM's version and arguments: its kernels round otherwise than the modality's own."""
        try:
            found = version("vllm")
        except PackageNotFoundError:
            found = "none"
        parts = f"vllm {found} {sorted(self.engine.items())} {subject.digest}"
        return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()

    def described(self) -> dict[str, Any]:
        """Kind and engine; the batch changes no answer."""
        return {"kind": self.kind, "engine": masked(dict(self.engine))}


def _written(subject: Subject, folder: Path) -> str:
    """Where the weights lie for vLLM: a folder of their own, or, for the model before training, where it came from."""
    modality: Any = subject.modality
    if subject.adapter_off:
        return str(modality.model)
    if hasattr(modality, "merge_on_save"):
        modality = dataclasses.replace(modality, merge_on_save=True)
    modality.save(subject.model, folder)
    return str(folder)


def _asked(engine: Any, parameters: Any, modality: Any, requests: Sequence[Request]) -> Iterator[Sample]:
    """Hands over tokens, not texts: they are those that the modality's own `generate` starts from."""
    encoder = getattr(modality, "encoder", None)
    if encoder is None:
        raise ConfigError(f"backend.kind vllm writes text, and {type(modality).__name__} is no modality of text.")
    prompts = [{"prompt_token_ids": list(ids)} for ids in encoder.prompts([one.prompt for one in requests])]
    settings = [parameters(**{"max_tokens": 128, **_settings(one)}) for one in requests]
    for request, found in zip(requests, engine.generate(prompts, settings), strict=True):
        best = found.outputs[0]
        text = best.text.strip() if encoder.conversation.uses_template(request.prompt) else best.text
        yield Sample(request.id, request.prompt, text, best.finish_reason != "length", {"length": float(len(best.token_ids))})


def _settings(request: Request) -> dict[str, Any]:
    made = translated(request.settings, "vLLM")
    if made.get("top_k") == 0:  # "all" is -1 there
        made["top_k"] = -1
    return {**made, "seed": request.seed}
