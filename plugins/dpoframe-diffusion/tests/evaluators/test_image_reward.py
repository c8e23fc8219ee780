"""ImageReward: the published names on transformers' BLIP, and the reward by arithmetic written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpoframe_diffusion.evaluators.image_reward import ImageReward
from dpoframe_diffusion.evaluators.image_reward_model import loaded, towers
from dpoframe_diffusion.evaluators.weights import MissingWeightsError
from PIL import Image

from dpoframe import Available, Media, Refused, Sample
from dpoframe.testing import EvaluatorContract

SEEN, READ, WORDS = 192, 128, 60
"""Width of the picture's tower (3 heads) and of the text's (2 heads), and the vocabulary."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published file at a small size: 2 layers a tower, patches of 8 in a picture of 16."""
    found: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, SEEN),
        "pos_embed": (1, 5, SEEN),
        "patch_embed.proj.weight": (SEEN, 3, 8, 8),
        "patch_embed.proj.bias": (SEEN,),
    }

    def linear(name: str, out: int, into: int) -> None:
        found.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    def norm(name: str, width: int) -> None:
        found.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    for place in ("blocks.0", "blocks.1"):
        norm(f"{place}.norm1", SEEN)
        linear(f"{place}.attn.qkv", 3 * SEEN, SEEN)
        linear(f"{place}.attn.proj", SEEN, SEEN)
        norm(f"{place}.norm2", SEEN)
        linear(f"{place}.mlp.fc1", 2 * SEEN, SEEN)
        linear(f"{place}.mlp.fc2", SEEN, 2 * SEEN)
    norm("norm", SEEN)
    found = {f"blip.visual_encoder.{name}": shape for name, shape in found.items()}
    text = "blip.text_encoder"
    found[f"{text}.embeddings.word_embeddings.weight"] = (WORDS, READ)
    found[f"{text}.embeddings.position_embeddings.weight"] = (64, READ)
    norm(f"{text}.embeddings.LayerNorm", READ)
    for place in (f"{text}.encoder.layer.0", f"{text}.encoder.layer.1"):
        for kind, width in (("attention", READ), ("crossattention", SEEN)):
            linear(f"{place}.{kind}.self.query", READ, READ)
            linear(f"{place}.{kind}.self.key", READ, width)
            linear(f"{place}.{kind}.self.value", READ, width)
            linear(f"{place}.{kind}.output.dense", READ, READ)
            norm(f"{place}.{kind}.output.LayerNorm", READ)
        linear(f"{place}.intermediate.dense", 2 * READ, READ)
        linear(f"{place}.output.dense", READ, 2 * READ)
        norm(f"{place}.output.LayerNorm", READ)
    widths = (READ, 32, 16, 8, 4, 1)
    for place, out, into in zip((0, 2, 4, 6, 7), widths[1:], widths[:-1], strict=True):
        linear(f"mlp.layers.{place}", out, into)
    linear("blip.vision_proj", 16, SEEN)
    linear("blip.text_proj", 16, READ)
    return found


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights under the published names, with what only BLIP's own training reads."""
    draw = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in shapes().items():
        width = 1.0 if len(shape) == 1 else math.prod(shape[1:]) ** -0.5
        found[name] = torch.randn(shape, generator=draw) * width + (
            1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        )
    found["blip.text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, state: dict[str, torch.Tensor]) -> tuple[Path, Path]:
    """The weights' file, and a folder with a BERT vocabulary."""
    from transformers import BertConfig, BertTokenizer

    folder = tmp_path_factory.mktemp("image-reward")
    torch.save(state, folder / "ImageReward.pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "square", "circle", "on", "the", "cat", "dog"]
    BertTokenizer(vocab={word: place for place, word in enumerate(words)}).save_pretrained(folder / "bert")
    BertConfig(vocab_size=len(words)).save_pretrained(folder / "bert")
    return folder / "ImageReward.pt", folder / "bert"


def erf(x: Any) -> Any:
    """The error function."""
    return np.vectorize(math.erf)(x)


class Written:
    """BLIP reading a text while it looks at a picture, in float64 over the published names: no library computes here."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.weights = {name: tensor.double().numpy() for name, tensor in state.items()}

    def linear(self, x: Any, name: str) -> Any:
        """One linear layer."""
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x: Any, name: str, eps: float) -> Any:
        """One layer normalisation."""
        spread = np.sqrt(x.var(-1, keepdims=True) + eps)
        return (x - x.mean(-1, keepdims=True)) / spread * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, q: Any, k: Any, v: Any) -> Any:
        """Attention by heads of 64."""
        heads = []
        for start in range(0, q.shape[1], 64):
            cut = slice(start, start + 64)
            logits = q[:, cut] @ k[:, cut].T / 8
            powers = np.exp(logits - logits.max(-1, keepdims=True))
            heads.append(powers / powers.sum(-1, keepdims=True) @ v[:, cut])
        return np.concatenate(heads, 1)

    def gelu(self, x: Any) -> Any:
        """The exact one."""
        return x * (1 + erf(x / math.sqrt(2))) / 2

    def picture(self, pixels: Any) -> Any:
        """(5, SEEN) from pixels (3, 16, 16)."""
        base = "blip.visual_encoder"
        patches = pixels.reshape(3, 2, 8, 2, 8).transpose(1, 3, 0, 2, 4).reshape(4, -1)
        rows = patches @ self.weights[f"{base}.patch_embed.proj.weight"].reshape(SEEN, -1).T
        rows = rows + self.weights[f"{base}.patch_embed.proj.bias"]
        x = np.concatenate([self.weights[f"{base}.cls_token"][0], rows]) + self.weights[f"{base}.pos_embed"][0]
        for place in (f"{base}.blocks.0", f"{base}.blocks.1"):
            q, k, v = np.split(self.linear(self.norm(x, f"{place}.norm1", 1e-6), f"{place}.attn.qkv"), 3, axis=1)
            x = x + self.linear(self.attend(q, k, v), f"{place}.attn.proj")
            inner = self.gelu(self.linear(self.norm(x, f"{place}.norm2", 1e-6), f"{place}.mlp.fc1"))
            x = x + self.linear(inner, f"{place}.mlp.fc2")
        return self.norm(x, f"{base}.norm", 1e-6)

    def reward(self, pixels: Any, ids: list[int]) -> float:
        """The reward of token ids without padding."""
        seen, base = self.picture(pixels), "blip.text_encoder"
        words, places = (self.weights[f"{base}.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
        x = self.norm(words[ids] + places[: len(ids)], f"{base}.embeddings.LayerNorm", 1e-12)
        for place in (f"{base}.encoder.layer.0", f"{base}.encoder.layer.1"):
            for kind in ("attention", "crossattention"):
                source = x if kind == "attention" else seen
                q, k, v = (
                    self.linear(one, f"{place}.{kind}.self.{part}")
                    for one, part in ((x, "query"), (source, "key"), (source, "value"))
                )
                x = self.norm(
                    x + self.linear(self.attend(q, k, v), f"{place}.{kind}.output.dense"), f"{place}.{kind}.output.LayerNorm", 1e-12
                )
            inner = self.gelu(self.linear(x, f"{place}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{place}.output.dense"), f"{place}.output.LayerNorm", 1e-12)
        found = x[0]
        for number in (0, 2, 4, 6, 7):
            found = self.linear(found, f"mlp.layers.{number}")
        return (float(found[0]) - 0.16717362830052426) / 1.0333394966054072


class TestContract(EvaluatorContract):
    """The contract of image_reward."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, parts: tuple[Path, Path], samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = ImageReward(*map(str, parts)), samples


def test_rewards_equal_arithmetic_written_out(
    state: dict[str, torch.Tensor],
    parts: tuple[Path, Path],
    drawn: Callable[..., Image.Image],
    as_media: Callable[[Image.Image], Media],
) -> None:
    """Rewards of short prompts, which are padded to 35 tokens, equal float64 arithmetic on the tokens without padding."""
    written, evaluator = Written(state), ImageReward(*map(str, parts))
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    vocabulary = {"a": 5, "red": 6, "blue": 7, "square": 8, "circle": 9, "on": 10, "the": 11, "cat": 12}
    rewards = []
    for seed, words in enumerate(["a red square", "a blue circle on the cat", "the cat"]):
        image = drawn(seed, 16, 16)
        pixels = ((np.asarray(image, dtype=np.float64) / 255 - mean) / std).transpose(2, 0, 1)
        expected = written.reward(pixels, [2, *(vocabulary[word] for word in words.split()), 3])
        assert evaluator.score(Sample("x", words, as_media(image)))["reward"] == pytest.approx(expected, abs=2e-5)
        rewards.append(expected)
    assert max(rewards) - min(rewards) > 1e-3


def test_text_is_cut_at_35_tokens(state: dict[str, torch.Tensor], parts: tuple[Path, Path], samples: tuple[Sample, ...]) -> None:
    """What stands after 33 words (and the two marks) changes no reward; what stands before them does."""
    evaluator, response = ImageReward(*map(str, parts)), samples[0].response
    base = evaluator.score(Sample("x", "red " * 33, response))
    assert evaluator.score(Sample("x", "red " * 33 + "dog " * 9, response)) == base
    assert evaluator.score(Sample("x", "red " * 32 + "dog", response)) != base


def test_pictures_are_resized_and_cropped(parts: tuple[Path, Path], drawn: Callable[..., Image.Image]) -> None:
    """The shorter side becomes the model's size by Pillow's bicubic filter, and the middle square is taken."""
    image = drawn(2, 40, 24)
    pixels = loaded(*parts).processor(images=image, return_tensors="pt")["pixel_values"][0].numpy()
    small = image.resize((int(40 * 16 / 24), 16), Image.Resampling.BICUBIC)
    left = (small.width - 16) // 2
    expected = np.asarray(small.crop((left, 0, left + 16, 16)), dtype=np.float64) / 255
    expected = (expected - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    np.testing.assert_allclose(pixels.transpose(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize("what", ["a weight is missing", "a weight too many", "another file"])
def test_other_weights_are_told(what: str, state: dict[str, torch.Tensor]) -> None:
    """Weights that are not all there, or of which the network has no use, are refused as a whole."""
    changed = dict(state)
    if what == "a weight is missing":
        del changed["blip.text_encoder.encoder.layer.1.crossattention.self.key.weight"]
    elif what == "a weight too many":
        changed["blip.text_encoder.encoder.layer.1.adapter.weight"] = torch.zeros(2)
    else:
        changed = {"model": torch.zeros(1)}
    with pytest.raises(MissingWeightsError, match="not ImageReward's weights"):
        towers(changed)


def test_commands_fetch_the_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts: tuple[Path, Path], clip_folder: Path
) -> None:
    """What is missing is told with the command that fetches it; a vocabulary of another kind is refused."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    state = ImageReward().probe()
    assert isinstance(state, Refused)
    assert "hf download THUDM/ImageReward ImageReward.pt\n" in state.fix
    assert 'hf download google-bert/bert-base-uncased --include "*.json" "*.txt"' in state.fix
    assert isinstance(ImageReward(*map(str, parts)).probe(), Available)
    state = ImageReward(str(parts[0]), str(clip_folder)).probe()
    assert isinstance(state, Refused)
    assert "of type 'clip', expected 'bert'" in state.reason
