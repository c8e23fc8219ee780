"""A real CLIP, if a tiny one with random weights, and pictures to show it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dpoframe import Media, Sample

SIZE = 32
WIDTH = 64


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """A smooth picture in colour, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def media(image: Image.Image) -> Media:
    """The picture as a PNG in memory."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Media("image", data=buffer.getvalue())


@pytest.fixture(scope="session")
def samples() -> tuple[Sample, ...]:
    """Five pictures of three prompts, and bytes that are no picture."""
    asked = ["a red square", "a red square", "a blue circle on the cat", "a blue circle on the cat", "a dog"]
    drawn = [Sample(f"p{place}", prompt, media(picture(place))) for place, prompt in enumerate(asked)]
    return (*drawn, Sample("broken", "a dog", Media("image", data=b"\x89PNG\r\n\x1a\n and no more")))


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Image.Image]:
    """Makes pictures; see `picture`."""
    return picture


@pytest.fixture(scope="session")
def as_media() -> Callable[[Image.Image], Media]:
    """Makes media of pictures."""
    return media


@pytest.fixture(scope="session")
def new_clip() -> Callable[..., Path]:
    """Writes a CLIP; see `make_clip`."""
    return make_clip


def make_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer over letters, with its end mark as the highest id, as CLIP reads it."""
    from transformers import CLIPTokenizer

    letters = sorted(set("abcdefghijklmnopqrstuvwxyz.,!?0123456789'-"))
    words = [f"{letter}</w>" for letter in letters]
    vocab = {token: place for place, token in enumerate([*letters, *words, "re", "red</w>", "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocab, merges=[("r", "e"), ("re", "d</w>")], model_max_length=40).save_pretrained(folder)


def make_clip(folder: Path, seed: int = 0, **text: int) -> Path:
    """Writes a CLIP with random weights, its tokenizer and its image processor, as transformers lays them out."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

    make_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tower = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 40,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **text,
        },
        vision_config={**tower, "image_size": SIZE, "patch_size": 8},
        projection_dim=24,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
        for parameter in model.parameters():
            # transformers' first weights are so small that every text has nearly the same vector.
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


def renamed(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a CLIP of `make_clip` under open_clip's names."""
    source = load_file(folder / "model.safetensors")
    state: dict[str, torch.Tensor] = {"logit_scale": source["logit_scale"]}
    for there, tower in (("", "text_model"), ("visual.", "vision_model")):
        for number in range(2):
            mine, theirs = f"{tower}.encoder.layers.{number}", f"{there}transformer.resblocks.{number}"
            for kind in ("weight", "bias"):
                parts = [source[f"{mine}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                state[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
                state[f"{theirs}.attn.out_proj.{kind}"] = source[f"{mine}.self_attn.out_proj.{kind}"]
                for one, other in (
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    state[f"{theirs}.{other}.{kind}"] = source[f"{mine}.{one}.{kind}"]
    for mine, theirs in (
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("text_model.final_layer_norm.weight", "ln_final.weight"),
        ("text_model.final_layer_norm.bias", "ln_final.bias"),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight"),
        ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias"),
        ("vision_model.post_layernorm.weight", "visual.ln_post.weight"),
        ("vision_model.post_layernorm.bias", "visual.ln_post.bias"),
    ):
        state[theirs] = source[mine]
    state["text_projection"] = source["text_projection.weight"].T.contiguous()
    state["visual.proj"] = source["visual_projection.weight"].T.contiguous()
    return state


@pytest.fixture(scope="session")
def open_clip_state() -> Callable[[Path], dict[str, torch.Tensor]]:
    """Renames weights; see `renamed`."""
    return renamed


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CLIP."""
    return make_clip(tmp_path_factory.mktemp("weights") / "tiny-clip")


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures."""
    folder = tmp_path_factory.mktemp("references") / "real"
    folder.mkdir()
    for place in range(12):
        picture(100 + place).save(folder / f"{place:02}.png")
    return folder
