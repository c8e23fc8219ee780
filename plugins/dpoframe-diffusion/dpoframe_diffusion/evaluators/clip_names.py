"""A CLIP's weights under the names of transformers, from those of open_clip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# open_clip's name, transformers' name.
_WHOLE = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
# Matrices that multiply from the right there, and from the left here.
_TURNED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_NO_WEIGHTS = ("attn_mask", "logit_bias")


def transformers_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights for `CLIPModel.load_state_dict`.

    Raises:
        KeyError: a name is none of a CLIP's, in open_clip's layout.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        plain = name.removeprefix("module.")
        if plain not in _NO_WEIGHTS:
            found.update(_named(plain, tensor))
    return found


def _named(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name in _WHOLE:
        return {_WHOLE[name]: tensor}
    if name in _TURNED:
        return {_TURNED[name]: tensor.T.contiguous()}
    if block := _BLOCK.fullmatch(name):
        tower = "vision_model" if block[1] else "text_model"
        return _in_block(f"{tower}.encoder.layers.{block[2]}", block[3], tensor)
    stem, _, kind = name.rpartition(".")
    return {f"{_NORMS[stem]}.{kind}": tensor}


def _in_block(place: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Queries, keys and values stand in one matrix there, and in three here."""
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        parts = zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True)
        return {f"{place}.self_attn.{part}.{kind}": rows for part, rows in parts}
    stem, _, kind = name.rpartition(".")
    return {f"{place}.{_IN_BLOCK[stem]}.{kind}": tensor}
