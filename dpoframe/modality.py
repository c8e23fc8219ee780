"""The contract of a modality: how one kind of model scores, and writes, one kind of output."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from dpoframe.credentials import is_credential
from dpoframe.errors import CheckpointError, ConfigError
from dpoframe.types import Example, Measure, Request, Sample, Scores, content_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch: TypeAlias = Any
"""What `collate` returns and `score` takes: tensors in dicts, lists or dataclasses, which Lightning moves to the device.

The core never looks inside. A dataclass batch must be made of fields that can be moved."""

GradientHint: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""`hint(values, index) -> gradient`: the loss's derivative by the values (n,) of the examples `index` (n,) of the batch.

`index` must cover whole pairs. The gradient is right up to one positive factor that is common to the batch."""


@dataclass(frozen=True)
class Modality(ABC):
    """One kind of model and output. Subclass as a frozen dataclass: its fields are its recipe keys.

    A modality scores examples, not pairs; it holds no weights (`build` returns them) and it pickles. `score` is pure:
    all randomness comes from `Example.seed`, drawn in `collate`.

    Class attributes:
        provides: names of the `Scores.detail` entries that `with_details` can switch on.
        stochastic: whether scores depend on `Example.seed` (diffusion: yes; text: no).
        library: what loads the folder that `save` writes, as a model card names it.
    """

    provides: ClassVar[frozenset[str]] = frozenset()
    stochastic: ClassVar[bool] = False
    library: ClassVar[str] = "dpoframe"
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def prepare(self, examples: Iterable[Example]) -> None:  # noqa: B027
        """Does work that is the same however the model changes, and keeps it where `collate` finds it. Nothing by default.

        It is called once before the policy is built, so that what does the work (an image encoder) is gone before the model
        is there, and before an evaluation scores anything. No result may depend on it: `collate` must do without.

        Args:
            examples: Every example of the run, of which each rank gets its share. The two of a pair come one after the other.
                A pair comes again for each seed it will have. Take them as they are worked on: the progress that is shown
                counts what was taken.
        """

    @abstractmethod
    def build(self) -> nn.Module:
        """Loads or makes the policy. Parameters that come back frozen are shared with the reference, never copied."""

    def outline(self) -> nn.Module:
        """The policy as `build` makes it, on torch's `meta` device: shapes and types without values, for `dpoframe plan`.

        The default calls `build` there. Override it where `build` reads weights, so that a plan reads none.
        """
        import torch

        with torch.device("meta"):
            return self.build()

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """Parts of a model that a strategy which splits it over ranks (`fsdp`) may gather one at a time; see `blocks_of`.

        The default is none: the whole model is then gathered for each `score`, which is always right. Give the model's layers
        where every call of `score` and `score_with_hint`, with whatever batch, calls each of them equally often, as modules (the
        gathering hangs on their being called): ranks that call them in another number wait for each other for ever.
        """
        return ()

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Batch:
        """Turns N examples into one batch whose scores come back in the same order. Runs in data-loading workers."""

    def outline_batch(self, examples: Sequence[Example]) -> Batch:
        """A batch of the shapes and types that `collate` gives these examples, for `dpoframe plan`; by default what it gives.

        Floating-point values do not matter. Override it where `collate` runs a model.
        """
        return self.collate(examples)

    @abstractmethod
    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """Scores a batch: N numbers, higher is better, with their graph where gradients are on."""

    def score_with_hint(self, model: nn.Module, batch: Batch, hint: GradientHint) -> Scores:
        """As `score`; an implementation may use `hint` to form gradients early. It changes the speed, never the result."""
        return self.score(model, batch)

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """Yields one sample a request, in any order. The sample depends on its own request alone."""
        raise ConfigError(f"The modality {type(self).__name__} cannot generate: it does not implement generate().")

    def check_generation(self, settings: Mapping[str, Any]) -> bool:
        """Whether answers with these settings are drawn at random, so that several to one prompt may differ. No weights needed.

        The default knows nothing of the settings and says yes.

        Raises:
            ConfigError: `generate` would refuse the settings; with all faults.
        """
        return True

    def measure(self, example: Example) -> Measure:
        """Size of an example and digests of what the model sees of it, without a model. The default counts 1 a response."""
        return Measure(0, 1, content_digest(example.prompt), content_digest(example.response))

    def with_details(self, names: frozenset[str]) -> Modality:
        """This modality with the named `Scores.detail` entries switched on; ConfigError where it cannot provide one."""
        if missing := sorted(names - self.provides):
            raise ConfigError(
                f"The loss needs {', '.join(missing)} from the modality {type(self).__name__}, which does not provide it."
            )
        return self

    def fingerprint(self) -> dict[str, Any]:
        """What besides weights, texts and seeds decides a score (tokenizer, template, resolution): plain JSON values.

        The default is every field of the dataclass but passwords and tokens: they decide no score, and this is written into files.
        """
        fields = {name: value for name, value in asdict(self).items() if not is_credential(name)}
        return dict(json.loads(json.dumps(fields, default=str, sort_keys=True)))

    def for_evaluation(self) -> Modality:
        """This modality as evaluations score with it: without what weighs scores for training alone. Itself by default."""
        return self

    def without_adapter(self, model: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Context in which `model` scores as it did before training, for `reference: {kind: adapter}`.

        The default asks the model for a peft-style `disable_adapter()`.
        """
        disable = getattr(model, "disable_adapter", None)
        if disable is None:
            raise ConfigError(
                "reference kind 'adapter' needs a model with an adapter that can be switched off (LoRA). "
                "Give the modality a lora section, or take reference kind 'copy' or 'cached'."
            )
        context: contextlib.AbstractContextManager[Any] = disable()
        return context

    def card(self) -> Mapping[str, str]:
        """What the model card of an aligned model says besides its figures; whatever is left out is not said.

        `pipeline_tag` and `base_model` go to the card's head as the Hugging Face hub knows them; `usage` is Markdown that
        shows how the saved folder is loaded without dpoframe.
        """
        return {}

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether a folder that dpoframe did not write holds a model that this modality loads; it is evaluated by it then.

        Looks at names of files alone. A folder that no modality recognises is taken for the text modality's.
        """
        return False

    def settle(self, folder: Path) -> None:  # noqa: B027 - most modalities have nothing to do
        """Told that it was read from the record of an exported folder, before it is asked anything else.

        What stands in that folder may serve where the modality's own fields lead to something that is gone by now.
        """

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes the model into an existing empty folder. The default is one safetensors file of all parameters."""
        from safetensors.torch import save_model

        save_model(model, str(folder / "model.safetensors"))

    def load(self, folder: Path) -> nn.Module:
        """Reads what `save` wrote, in evaluation mode. The default builds the model and fills in its parameters.

        Raises:
            CheckpointError: the file is missing or damaged, or holds the parameters of another model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        file = folder / "model.safetensors"
        if not file.is_file():
            raise CheckpointError(f"{folder} holds no model.safetensors, which {type(self).__name__}.save writes.")
        model = self.build()
        try:
            load_model(model, str(file))
        except (SafetensorError, RuntimeError) as error:  # no safetensors; other names or shapes
            said = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{file} is not what {type(self).__name__}.save writes for these settings: {said}") from error
        return model.eval()


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a model of transformers or diffusers, as its class names them (`_no_split_modules`); for `Modality.blocks`."""
    names = {name for part in model.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    return [part for part in model.modules() if type(part).__name__ in names]
