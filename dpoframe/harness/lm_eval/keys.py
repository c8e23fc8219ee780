"""The keys of a suite that lm-evaluation-harness runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge


@dataclass(frozen=True)
class LmEvalKeys:
    """A task and how it is run; what is left out is as the task says.

    Attributes:
        task: Name of a task or group, or the path of a task's own YAML file.
        include: A folder with further tasks.
        num_fewshot: Worked examples before each question.
        chat: Whether questions are written by the model's chat template.
        multiturn: With `chat`, whether worked examples become turns of their own.
        limit: Questions to take from each task at most.
        batch_size: Questions a batch; no figure depends on it, but for rounding.
        generation: Changes to the task's generation settings, by lm-evaluation-harness's names.
        scorer: `auto` hands a model of transformers to lm-evaluation-harness's own class, so that figures agree with those
            published; `modality` scores by the modality, as for any other model.
        unsafe_code: Whether tasks may run what the model writes, unprotected, on this machine.
    """

    task: str
    include: Path | None = None
    num_fewshot: Annotated[int, Ge(0)] | None = None
    chat: bool = False
    multiturn: bool = True
    limit: Annotated[int, Ge(1)] | None = None
    batch_size: Annotated[int, Ge(1)] = 8
    generation: Mapping[str, Any] = field(default_factory=dict)
    scorer: Literal["auto", "modality"] = "auto"
    unsafe_code: bool = False

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
