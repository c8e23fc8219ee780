"""A real CLIP, if a tiny one with random weights, and pictures to show it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    import torch
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
