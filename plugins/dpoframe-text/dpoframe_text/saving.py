"""Writing models in the layout that transformers and peft load with `from_pretrained`, older versions too."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe_text.quiet import quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

USAGE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
```

Adapters need `peft` to be installed."""
"""How a saved folder is loaded, for the model card."""


def save(model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path, merge: bool = False) -> None:
    """Writes weights (safetensors), configuration and tokenizer into an existing folder.

    A model with adapters becomes an adapter folder; with `merge`, or where its base stands in no file (random weights,
    an adapter merged before), the adapters are added into a copy of the weights and the whole model is written.
    """
    from peft import PeftModel

    whole: Any = model
    if isinstance(model, PeftModel) and (merge or not model.peft_config[model.active_adapter].base_model_name_or_path):
        whole = copy.deepcopy(model).merge_and_unload()
    with quiet():
        if isinstance(whole, PeftModel):
            # Whether embeddings were resized is asked of the hub otherwise; they never are.
            whole.save_pretrained(str(folder), save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)
        else:
            whole.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _edit(folder / "config.json", _readable_config)
    _edit(folder / "tokenizer_config.json", _readable_tokenizer)
    _edit(folder / "adapter_config.json", _in_order)


def _edit(file: Path, change: Any) -> None:
    if file.is_file():
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _readable_config(content: dict[str, Any]) -> None:
    """Adds the names that transformers 4, vLLM and llama.cpp read; without them they take their defaults in silence."""
    rope = content.get("rope_parameters") or {}
    if "rope_theta" in rope:
        content.setdefault("rope_theta", rope["rope_theta"])
    if rope.get("rope_type", "default") != "default":
        content.setdefault("rope_scaling", {key: value for key, value in rope.items() if key != "rope_theta"})
    if "dtype" in content:
        content.setdefault("torch_dtype", content["dtype"])


def _readable_tokenizer(content: dict[str, Any]) -> None:
    if content.get("tokenizer_class") == "TokenizersBackend":
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("is_local", "local_files_only"):
        content.pop(key, None)


def _in_order(content: dict[str, Any]) -> None:
    """Sorts what peft writes in any order: equal runs should write equal files."""
    content.update({key: sorted(value) for key, value in content.items() if key == "target_modules" and isinstance(value, list)})
