"""Writing classifiers in the layout that transformers and peft load with `from_pretrained`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe_moderation.classifier.quiet import quiet

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

USAGE = """\
```python
from transformers import pipeline

classify = pipeline("text-classification", "path/to/this/folder", top_k=None)
```

Adapters need `peft` to be installed; `AutoPeftModelForSequenceClassification` loads them, with `num_labels` given."""
"""How a saved folder is loaded, for the model card."""


def save(model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path, merge: bool = False) -> None:
    """Writes weights (safetensors), configuration and tokenizer into an existing folder.

    A model with adapters becomes an adapter folder, the labels beside it in `config.json`; with `merge`, or where its base stands
    in no file of transformers' own, the adapters are added into a copy of the weights and the whole model is written.
    """
    from peft import PeftModel

    whole: Any = model
    if isinstance(model, PeftModel) and (merge or not model.peft_config[model.active_adapter].base_model_name_or_path):
        whole = copy.deepcopy(model).merge_and_unload()
    with quiet():
        if isinstance(whole, PeftModel):
            # Whether embeddings were resized is asked of the hub otherwise; they never are.
            whole.save_pretrained(str(folder), save_embedding_layers=False)
            # peft keeps neither the labels nor their number.
            base: Any = whole.get_base_model()
            base.config.save_pretrained(folder)
            (folder / "README.md").unlink(missing_ok=True)
        else:
            whole.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _edit(folder / "config.json", _readable)
    _edit(folder / "tokenizer_config.json", _portable)
    _edit(folder / "adapter_config.json", _in_order)


def _edit(file: Path, change: Any) -> None:
    if file.is_file():
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _readable(content: dict[str, Any]) -> None:
    """Adds the names that transformers 4 reads; without them it takes its defaults in silence."""
    if "rope_theta" in (content.get("rope_parameters") or {}):
        content.setdefault("rope_theta", content["rope_parameters"]["rope_theta"])
    if "dtype" in content:
        content.setdefault("torch_dtype", content["dtype"])


def _portable(content: dict[str, Any]) -> None:
    if content.get("tokenizer_class") == "TokenizersBackend":
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("is_local", "local_files_only"):
        content.pop(key, None)


def _in_order(content: dict[str, Any]) -> None:
    """Sorts what peft writes in any order: equal runs should write equal files."""
    content.update({key: sorted(value) for key, value in content.items() if key == "target_modules" and isinstance(value, list)})
