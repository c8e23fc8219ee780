"""Classifiers through transformers and peft, with errors that say what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dpoframe import CheckpointError, ConfigError, DpoframeError, MachineError
from dpoframe_moderation.classifier.labels import Labels
from dpoframe_moderation.classifier.own_code import tell_of_code
from dpoframe_moderation.classifier.quiet import quiet
from dpoframe_moderation.classifier.source import HEAD, Source, locate
from dpoframe_moderation.taxonomy import plain

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

DtypeName: TypeAlias = Literal["float32", "bfloat16", "float16"]

_NO_PICKLES = (
    "Weights are read from safetensors alone, since pickles can run code: the hub converts on request, and `save_pretrained` of "
    "transformers or peft writes them where you trust the file."
)
_UNNAMED = re.compile(r"LABEL_\d+")
_SINGLE = "single_label_classification"
_MULTI = "multi_label_classification"


@dataclass(frozen=True)
class Loader:
    """Reads one model.

    Attributes:
        model: What the recipe calls it, see `source.locate`.
        revision: Branch, tag or commit, for a model on the hub.
        trust_remote_code: Whether code that comes with the model may run.
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False

    @cached_property
    def source(self) -> Source:
        """Where the model is."""
        return locate(self.model)

    @cached_property
    def adapter(self) -> Any:
        """The peft configuration, where the model is an adapter to another one; else None."""
        if self.source.kind == "gguf":
            return None
        from transformers.utils.peft_utils import find_adapter_config_file

        with self._explained():
            found = find_adapter_config_file(
                self.source.where, revision=self.revision, local_files_only=self.source.kind != "hub" or self.source.offline
            )
            if not found:
                return None
            from peft import PeftConfig

            return PeftConfig.from_pretrained(self.source.where, revision=self.revision)

    @cached_property
    def base(self) -> Loader:
        """The loader of the weights themselves: this one, or that of the model an adapter belongs to."""
        if self.adapter is None:
            return self
        base = str(self.adapter.base_model_name_or_path or "")
        if not base:
            raise CheckpointError(f"{self.source} is an adapter that does not name its base model (base_model_name_or_path).")
        return Loader(base, self.adapter.revision, self.trust_remote_code)

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration, of an adapter the one that lies beside it."""
        from transformers import AutoConfig

        home = self if self.adapter is None or _has_config(self.source) else self.base
        where, options = home._arguments
        with home._explained():
            found: PretrainedConfig = AutoConfig.from_pretrained(where, **options)
        return found

    @property
    def has_head(self) -> bool:
        """Whether the model is a classifier already."""
        return self.adapter is not None or any(name.endswith(HEAD) for name in self.config.architectures or ())

    def labels(self, wanted: tuple[str, ...], multi: bool | None, new_head: bool) -> Labels:
        """The labels of the model as it will be built: its own, where it has a head, else those that are wanted.

        Raises:
            ConfigError: It has no head and no labels are given, or others than those of its head.
        """
        if not self.has_head or new_head:
            if not wanted:
                raise ConfigError(
                    f"{self.source} has no labels of its own. Give the modality's key 'labels': a list, or a taxonomy."
                )
            return Labels(wanted, multi is not False)
        known: Any = self.config.id2label
        own = tuple(str(known[index]) for index in range(len(known)))
        if all(_UNNAMED.fullmatch(name) for name in own) and len(wanted) == len(own):
            own = wanted
        if wanted and [plain(name) for name in wanted] != [plain(name) for name in own]:
            raise ConfigError(
                f"{self.source} has the labels {', '.join(own)}, but {', '.join(wanted)} are given. "
                "Leave 'labels' out, or set new_head: true to train a fresh head."
            )
        own_multi = {_SINGLE: False, _MULTI: True}.get(str(self.config.problem_type))
        return Labels(own, (multi if own_multi is None else own_multi) is not False)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; an adapter without one has its base's."""
        from transformers import AutoTokenizer

        where, options = self._arguments
        try:
            with self._explained():
                return AutoTokenizer.from_pretrained(where, **options)
        except CheckpointError:
            if self.adapter is None:
                raise
            return self.base.tokenizer()

    def weights(self, labels: Labels, padding: int, dtype: DtypeName, new_head: bool, seed: int) -> Any:
        """The classifier without adapters. A head that it lacks is drawn from `seed`.

        Args:
            labels: Outputs of the head.
            padding: The token that fills up shorter rows: decoders read their answer off the last other one.
            dtype: Type of the weights.
            new_head: Whether a head that is there is thrown away.
            seed: Decides the fresh head.

        Raises:
            CheckpointError: The files lack weights of the encoder.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        where, options = self._arguments
        named: dict[str, Any] = {
            "num_labels": len(labels.names),
            "id2label": dict(enumerate(labels.names)),
            "label2id": {name: index for index, name in enumerate(labels.names)},
            "problem_type": _MULTI if labels.multi else _SINGLE,
        }
        with self._explained(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                where,
                output_loading_info=True,
                use_safetensors=self.source.kind != "gguf",
                dtype=getattr(torch, dtype),
                ignore_mismatched_sizes=new_head,
                **named,
                **options,
            )
        model, told = loaded
        self._require(model, told["missing_keys"], headless=new_head or not self.has_head)
        if new_head and self.has_head:
            _redraw(model, seed)
        model.config.get_text_config().pad_token_id = padding
        return model if self.source.kind != "gguf" else _plain(model)

    def with_adapter(self, model: Any) -> Any:
        """The weights with this source's adapter on them (a `PeftModel`), not trainable."""
        from huggingface_hub import hf_hub_download
        from peft import PeftModel

        name = "adapter_model.safetensors"
        with self._explained():
            # peft would take a pickle where there is no other file.
            if self.source.kind == "hub":
                hf_hub_download(self.source.where, name, revision=self.revision, local_files_only=self.source.offline)
            elif not (Path(self.source.where) / name).is_file():
                raise CheckpointError(f"{self.source} holds no {name}. {_NO_PICKLES}")
            return PeftModel.from_pretrained(model, self.source.where, revision=self.revision)

    @cached_property
    def _arguments(self) -> tuple[str, dict[str, Any]]:
        """What `from_pretrained` is called with; code that will run is told of."""
        if self.trust_remote_code and self.source.kind != "gguf":
            tell_of_code(self.source, self.revision)
        return self.source.arguments(self.revision, self.trust_remote_code)

    def _require(self, model: Any, missing: set[str], headless: bool) -> None:
        body = f"{model.base_model_prefix}."
        # A pooler is trained with a head, so an encoder may come without one.
        lost = sorted(name for name in missing if (name.startswith(body) and "pooler" not in name) or not headless)
        if lost:
            raise CheckpointError(
                f"{self.source} lacks {len(lost)} weights of a {type(model).__name__} ({', '.join(lost[:3])}, ...); "
                "they would be random."
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns the many errors of the libraries into one of dpoframe's."""
        try:
            with quiet():
                yield
        except DpoframeError:
            raise
        except MemoryError as error:
            raise MachineError(f"There is not enough memory to load {self.source}.") from error
        except Exception as error:  # the libraries raise nearly every type on a broken file
            raise self._explanation(error) from error

    def _explanation(self, error: Exception) -> CheckpointError | MachineError:
        if "trust_remote_code" in str(error):
            return CheckpointError(f"{self.source} brings code of its own. Read it, then set trust_remote_code: true to run it.")
        if self.source.offline:
            return MachineError(
                f"{self.source} is not on this machine, and the hub cannot be reached. Connect to the network, "
                "or give a local folder."
            )
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        said = re.sub(r"\s*https?://\S+", "", line)[:300]
        pickled = f" {_NO_PICKLES}" if ".safetensors" in said else ""
        return CheckpointError(f"{self.source} cannot be loaded: {said}{pickled}")


def _has_config(source: Source) -> bool:
    return source.kind == "folder" and (Path(source.where) / "config.json").is_file()


def _plain(model: Any) -> Any:
    """The model of a GGUF file without the mark of it: its weights were unpacked, but with the mark it could not be saved."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _redraw(model: Any, seed: int) -> None:
    """Draws the head anew, as transformers would have drawn one that was missing."""
    import torch

    from dpoframe_moderation.classifier.adapters import head_names

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in head_names(model):
            for part in getattr(model, name).modules():
                if isinstance(part, torch.nn.Linear):
                    part.weight.data.normal_(0, float(getattr(model.config, "initializer_range", 0.02)))
                    if part.bias is not None:
                        part.bias.data.zero_()
