"""ImageReward's network, on the BLIP of transformers."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe_diffusion.evaluators.device import device
from dpoframe_diffusion.evaluators.weights import MissingWeightsError, sha256
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

MEAN, SPREAD = 0.16717362830052426, 1.0333394966054072
"""Of the raw reward over the authors' data; published with the weights."""

MOST_TOKENS = 35
HEAD_WIDTH = 64
"""Numbers of one attention head in either tower."""

_VISION = (
    (r"cls_token", "embeddings.class_embedding"),
    (r"pos_embed", "embeddings.position_embedding"),
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embedding.\1"),
    (r"norm\.(\w+)", r"post_layernorm.\1"),
    (r"blocks\.(\d+)\.norm(\d)\.(\w+)", r"encoder.layers.\1.layer_norm\2.\3"),
    (r"blocks\.(\d+)\.attn\.qkv\.(\w+)", r"encoder.layers.\1.self_attn.qkv.\2"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"encoder.layers.\1.self_attn.projection.\2"),
    (r"blocks\.(\d+)\.mlp\.(fc\d)\.(\w+)", r"encoder.layers.\1.mlp.\2.\3"),
)
"""Names of BLIP's vision transformer, and transformers' names of the same."""

# Only BLIP's own training reads the two projections; positions are counted anew.
_UNUSED = re.compile(r"blip\.(vision_proj|text_proj)\.\w+|blip\.text_encoder\.embeddings\.position_ids")


@dataclass(frozen=True)
class ImageRewardModel:
    """The two towers, the head, and what prepares pictures and words for them."""

    vision: Any
    text: Any
    head: Any
    tokenizer: Any
    processor: Any

    def reward(self, image: Image, words: str) -> float:
        """The reward of one picture."""
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"]
        tokens = self.tokenizer([words], padding="max_length", truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
        return self.of(pixels, tokens["input_ids"], tokens["attention_mask"])

    def of(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> float:
        """The reward from pixels (1, 3, H, W) that are normalised, token ids (1, T) and their mask."""
        import torch

        where = self.vision.device
        with torch.inference_mode():
            seen = self.vision(pixel_values=pixels.to(where)).last_hidden_state
            read = self.text(
                input_ids=ids.to(where), attention_mask=mask.to(where), encoder_hidden_states=seen, is_decoder=False
            ).last_hidden_state
            return (float(self.head(read[:, 0])) - MEAN) / SPREAD


def loaded(file: Path, vocabulary: Path) -> ImageRewardModel:
    """The model with its weights, once a process; errors as for `towers`."""
    return _loaded(file, vocabulary, sha256(file), str(device()))


def towers(state: Mapping[str, Tensor]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Vision tower, text tower and head from the published file's state dict. Sizes follow from its shapes.

    Raises:
        MissingWeightsError: it lacks weights, or holds some that the network does not have.
    """
    parts = _parts(state)
    try:
        vision, text = _vision(parts["vision"]), _text(parts["text"], int(parts["vision"]["post_layernorm.weight"].shape[0]))
        head = _head(parts["head"])
        for module, part in ((vision, "vision"), (text, "text"), (head, "head")):
            module.load_state_dict(parts[part])
    except (KeyError, RuntimeError, ValueError) as error:
        raise MissingWeightsError(f"these are not ImageReward's weights: {error}"[:500], "Fetch ImageReward.pt again.") from error
    return tuple(module.float().requires_grad_(False).eval() for module in (vision, text, head))  # type: ignore[return-value]


@functools.lru_cache(maxsize=1)
def _loaded(file: Path, vocabulary: Path, mark: str, where: str) -> ImageRewardModel:
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessorPil

    state: Any = torch.load(file, map_location="cpu", weights_only=True)
    vision, text, head = (module.to(where) for module in towers(state))
    config: Any = vision.config
    size = int(config.image_size)
    # The authors resize and normalise as CLIP does.
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(vocabulary, local_files_only=True, trust_remote_code=False)
    return ImageRewardModel(vision, text, head, tokenizer, processor)


def _parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The state dicts of the three modules, under transformers' names."""
    found: dict[str, dict[str, Tensor]] = {"vision": {}, "text": {}, "head": {}}
    for name, tensor in state.items():
        if name.startswith("blip.visual_encoder."):
            found["vision"][_vision_name(name.removeprefix("blip.visual_encoder."))] = tensor
        elif name.startswith("mlp.layers."):
            found["head"][name.removeprefix("mlp.layers.")] = tensor
        elif not _UNUSED.fullmatch(name):
            # The text tower has BERT's names in both.
            found["text"][name.removeprefix("blip.text_encoder.")] = tensor
    return found


def _vision_name(name: str) -> str:
    for pattern, other in _VISION:
        if match := re.fullmatch(pattern, name):
            return match.expand(other)
    return name


def _vision(state: Mapping[str, Tensor]) -> nn.Module:
    from transformers import BlipVisionConfig, BlipVisionModel

    width, _, patch, _ = state["embeddings.patch_embedding.weight"].shape
    side = round((state["embeddings.position_embedding"].shape[1] - 1) ** 0.5)
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_depth(state),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        image_size=side * patch,
        patch_size=patch,
        # BLIP's own; transformers' default is 1e-5.
        layer_norm_eps=1e-6,
    )
    return BlipVisionModel(config)


def _text(state: Mapping[str, Tensor], seen: int) -> nn.Module:
    from transformers import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    words, width = state["embeddings.word_embeddings.weight"].shape
    config = BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=seen,
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_depth(state),
        # 12 in the published model; transformers' default is 8.
        num_attention_heads=max(1, width // HEAD_WIDTH),
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-12,
        # It makes the layers that look at the picture; attention between words stays two-way (see `of`).
        is_decoder=True,
    )
    return BlipTextModel(config, add_pooling_layer=False)


def _head(state: Mapping[str, Tensor]) -> nn.Module:
    """Linear layers without activations; the dropout between them, off in use, leaves gaps in their numbers."""
    from torch import nn

    places = sorted({int(name.split(".")[0]) for name in state})
    shapes = {place: state[f"{place}.weight"].shape for place in places}
    return nn.Sequential(
        *(nn.Linear(shapes[place][1], shapes[place][0]) if place in shapes else nn.Identity() for place in range(places[-1] + 1))
    )


def _depth(state: Mapping[str, Tensor]) -> int:
    return 1 + max(int(found[1]) for name in state if (found := re.match(r"encoder\.layers?\.(\d+)\.", name)))
