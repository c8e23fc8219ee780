"""Loading tokenizers, configurations and weights through transformers and peft, with errors that say what to do."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dpoframe import CheckpointError, ConfigError, MachineError, MissingExtraError
from dpoframe_text.own_code import PICKLED, require_no_pickle, told_of_code
from dpoframe_text.quiet import quiet
from dpoframe_text.source import Source, hub_reachable, locate

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DtypeName: TypeAlias = Literal["float32", "bfloat16", "float16", "auto"]


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
        """Where the model is. A GGUF file stands for its safetensors copy."""
        found = locate(self.model)
        if found.kind != "gguf":
            return found
        from dpoframe_text.gguf import converted

        return Source("folder", str(converted(Path(found.where))))

    @cached_property
    def adapter(self) -> Any:
        """The peft configuration, where the model is an adapter to another one; else None."""
        if self.source.kind == "folder":
            return None if not (Path(self.source.where) / "adapter_config.json").is_file() else self._adapter_config()
        from transformers.utils.peft_utils import find_adapter_config_file

        with self._explained():
            found = find_adapter_config_file(self.source.where, revision=self.revision, local_files_only=not self._online)
        return self._adapter_config() if found else None

    @cached_property
    def base(self) -> Loader:
        """The loader of the weights themselves: this one, or that of the model an adapter belongs to."""
        if self.adapter is None:
            return self
        base = str(self.adapter.base_model_name_or_path or "")
        if not base:
            raise CheckpointError(f"{self.source} is an adapter that does not name its base model (base_model_name_or_path).")
        return Loader(base, self.adapter.revision, self.trust_remote_code)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; an adapter without one has its base's."""
        from transformers import AutoTokenizer

        if self.source.kind == "folder" and not _has_tokenizer(Path(self.source.where)):
            if self.adapter is not None:
                return self.base.tokenizer()
            raise CheckpointError(f"{self.source} holds no tokenizer (tokenizer.json). Copy the files of its tokenizer there.")
        with self._explained():
            return AutoTokenizer.from_pretrained(self.source.where, **self._options)

    def config(self) -> PretrainedConfig:
        """The configuration of the weights."""
        from transformers import AutoConfig

        base = self.base
        with base._explained():
            config: PretrainedConfig = AutoConfig.from_pretrained(base.source.where, **base._options)
        return config

    def weights(self, dtype: DtypeName = "float32", in_4bit: bool = False) -> PreTrainedModel:
        """The causal language model without adapters. CheckpointError where the files lack some of its weights."""
        import torch
        from transformers import AutoModelForCausalLM

        options: dict[str, Any] = {"dtype": dtype if dtype == "auto" else getattr(torch, dtype)}
        if in_4bit:
            options["quantization_config"] = four_bit()
        base = self.base
        require_no_pickle(base.source, "model")
        with base._explained():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                base.source.where, output_loading_info=True, use_safetensors=True, **options, **base._options
            )
        model, told = loaded
        if missing := sorted(told["missing_keys"]):
            raise CheckpointError(
                f"{base.source} lacks {len(missing)} weights of a {type(model).__name__} ({', '.join(missing[:3])}, ...); "
                "they would be random. Is it the folder of a causal language model?"
            )
        made: PreTrainedModel = model
        return made

    def random_weights(self, seed: int, dtype: DtypeName = "float32") -> PreTrainedModel:
        """A model of this configuration with random weights that depend on `seed` alone."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.shape(dtype)

    def shape(self, dtype: DtypeName = "float32") -> PreTrainedModel:
        """A model of this configuration; its values are drawn at random, no file of weights is read."""
        import torch
        from transformers import AutoModelForCausalLM

        config = self.config()
        with quiet():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=self.trust_remote_code)
        if dtype != "auto":
            model.to(getattr(torch, dtype))
        return model

    def with_adapter(self, model: PreTrainedModel) -> Any:
        """The weights with this source's adapter on them (a `PeftModel`), not trainable."""
        from huggingface_hub import hf_hub_download
        from peft import PeftModel

        require_no_pickle(self.source, "adapter_model")
        with self._explained():
            if self.source.kind == "hub":  # peft would take a pickle where there is no other file
                name, here = "adapter_model.safetensors", not self._online
                hf_hub_download(self.source.where, name, revision=self.revision, local_files_only=here)
            return PeftModel.from_pretrained(model, self.source.where, revision=self.revision)

    def _adapter_config(self) -> Any:
        from peft import PeftConfig

        with self._explained():
            return PeftConfig.from_pretrained(self.source.where, revision=self.revision)

    @cached_property
    def _online(self) -> bool:
        return hub_reachable()

    @property
    def _options(self) -> dict[str, Any]:
        if self.trust_remote_code:
            told_of_code(self.source, self.revision, self._online)
        given: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.source.kind == "hub":
            given |= {"revision": self.revision, "local_files_only": not self._online}
        return given

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns the many errors of the libraries into one of dpoframe's."""
        try:
            with quiet(), _offline(self.source.kind == "hub" and not self._online):
                yield
        except (CheckpointError, ConfigError, MachineError):
            raise
        except MemoryError as error:
            raise MachineError(f"There is not enough memory to load {self.source}.") from error
        except Exception as error:  # the libraries raise nearly every type on a broken file
            raise self._explanation(error) from error

    def _explanation(self, error: Exception) -> CheckpointError | MachineError:
        said = _first_sentence(str(error))
        if "trust_remote_code" in str(error):
            fix = "Read it, then set trust_remote_code: true to run it (on the command line --set modality.trust_remote_code=true)."
            return CheckpointError(f"{self.source} brings code of its own. {fix}")
        if self.source.kind == "hub" and not self._online:
            return MachineError(
                f"{self.source} is not on this machine, and the hub cannot be reached. Connect to the network, or give a local "
                "folder or a .gguf file."
            )
        if ".safetensors" in said and self.source.kind == "hub":
            return CheckpointError(f"{self.source} seems to hold its weights as pickles alone ({said}), {PICKLED}")
        # transformers tells of a file that may not be read as of one that is not there.
        if self.source.kind == "folder" and (closed := _unreadable(Path(self.source.where))):
            return MachineError(f"{closed} may not be read by this user. Change its permissions, or copy {self.source}.")
        return CheckpointError(f"{self.source} cannot be loaded: {said}")


def four_bit() -> Any:
    """The 4-bit setting of QLoRA: normal floats, nested constants. MissingExtraError without bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("load_in_4bit", "bitsandbytes", "pip install 'dpoframe-text[quantized]'")
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


@contextlib.contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Tells the hub's client that there is no network: some calls do not hear `local_files_only`, and try for 20 s."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _has_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
    return any((folder / name).is_file() for name in names)


def _unreadable(folder: Path) -> Path | None:
    """The first file of a folder that this user may not read, or the folder itself."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return folder
    return next((file for file in sorted(folder.iterdir()) if not os.access(file, os.R_OK)), None)


def _first_sentence(text: str) -> str:
    """The first line of a library's message, without its links."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return re.sub(r"\s*https?://\S+", "", line)[:300]
