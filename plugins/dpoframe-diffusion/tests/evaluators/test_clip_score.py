"""CLIP score: the arithmetic, the cut of long prompts, what it refuses, and both libraries on the same weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpoframe_diffusion.evaluators import clip as clips
from dpoframe_diffusion.evaluators.clip import clip_at, open_clip_imports
from dpoframe_diffusion.evaluators.clip_score import ClipScore
from dpoframe_diffusion.evaluators.weights import Weights
from PIL import Image
from safetensors.torch import load_file, save_file

from dpoframe import Available, Media, Refused, Sample, UnscoredError
from dpoframe.testing import EvaluatorContract

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def normed(x: Any, weight: Any, bias: Any) -> Any:
    """Layer normalisation over the last axis."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def softmax(x: Any) -> Any:
    """Over the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Written:
    """CLIP in float64, written out from the paper's description over the weights' names: no library computes here."""

    def __init__(self, folder: Path) -> None:
        self.weights = {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}

    def linear(self, x: Any, name: str) -> Any:
        """One linear layer."""
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x: Any, name: str) -> Any:
        """One layer normalisation."""
        return normed(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def blocks(self, x: Any, tower: str, causal: bool) -> Any:
        """Two residual blocks of two heads each."""
        for number in range(2):
            place = f"{tower}.encoder.layers.{number}"
            inner = self.norm(x, f"{place}.layer_norm1")
            q, k, v = (self.linear(inner, f"{place}.self_attn.{part}_proj") for part in "qkv")
            width = q.shape[1] // 2
            heads = []
            for head in range(2):
                cut = slice(head * width, (head + 1) * width)
                logits = q[:, cut] @ k[:, cut].T / math.sqrt(width)
                if causal:
                    logits = np.where(np.tril(np.ones_like(logits)) > 0, logits, -np.inf)
                heads.append(softmax(logits) @ v[:, cut])
            x = x + self.linear(np.concatenate(heads, 1), f"{place}.self_attn.out_proj")
            inner = self.linear(self.norm(x, f"{place}.layer_norm2"), f"{place}.mlp.fc1")
            x = x + self.linear(inner / (1 + np.exp(-1.702 * inner)), f"{place}.mlp.fc2")
        return x

    def text(self, ids: list[int]) -> Any:
        """The vector of token ids that end in the end mark, of length 1."""
        words, places = (self.weights[f"text_model.embeddings.{kind}_embedding.weight"] for kind in ("token", "position"))
        x = self.blocks(words[ids] + places[: len(ids)], "text_model", causal=True)
        vector = self.norm(x, "text_model.final_layer_norm")[-1] @ self.weights["text_projection.weight"].T
        return vector / np.linalg.norm(vector)

    def picture(self, image: Image.Image) -> Any:
        """The vector of a picture, of length 1: shorter side to 32 by Pillow, middle square, 4 x 4 patches of 8."""
        scale = 32 / min(image.size)
        small = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (small.width - 32) // 2, (small.height - 32) // 2
        pixels = (np.asarray(small.crop((left, top, left + 32, top + 32)), dtype=np.float64) / 255 - MEAN) / STD
        patches = pixels.reshape(4, 8, 4, 8, 3).transpose(0, 2, 4, 1, 3).reshape(16, -1)
        place = "vision_model.embeddings"
        rows = patches @ self.weights[f"{place}.patch_embedding.weight"].reshape(64, -1).T
        x = (
            np.concatenate([self.weights[f"{place}.class_embedding"][None], rows])
            + self.weights[f"{place}.position_embedding.weight"]
        )
        x = self.blocks(self.norm(x, "vision_model.pre_layrnorm"), "vision_model", causal=False)
        vector = self.norm(x[:1], "vision_model.post_layernorm")[0] @ self.weights["visual_projection.weight"].T
        return vector / np.linalg.norm(vector)


def ids_of(words: str, folder: Path) -> list[int]:
    """Token ids by hand: the test's tokenizer has letters, letters at a word's end, and the one word `red`."""
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    spelt = [
        [vocab["red</w>"]] if word == "red" else [vocab[letter] for letter in word[:-1]] + [vocab[f"{word[-1]}</w>"]]
        for word in words.lower().split()
    ]
    return [vocab["<|startoftext|>"], *(one for word in spelt for one in word), vocab["<|endoftext|>"]]


class TestContract(EvaluatorContract):
    """The contract of clip_score."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, clip_folder: Path, samples: tuple[Sample, ...]) -> None:
        """What is checked."""
        cls.evaluator, cls.samples = ClipScore(str(clip_folder)), samples


def test_equals_arithmetic_written_out(clip_folder: Path, samples: tuple[Sample, ...], drawn: Callable[..., Image.Image]) -> None:
    """The cosine of every picture and prompt equals float64 arithmetic over the same weights; both scales follow from it."""
    written, evaluator = Written(clip_folder), ClipScore(str(clip_folder))
    seen = []
    for place, sample in enumerate(samples[:5]):
        expected = float(written.picture(drawn(place)) @ written.text(ids_of(str(sample.prompt), clip_folder)))
        score = evaluator.score(sample)
        assert score["cosine"] == pytest.approx(expected, abs=2e-6)
        assert score["paper"] == pytest.approx(2.5 * max(expected, 0), abs=1e-5)
        assert score["percent"] == pytest.approx(100 * max(expected, 0), abs=1e-3)
        seen.append(expected)
    assert min(seen) < 0 < max(seen)
    assert max(seen) - min(seen) > 0.05


def test_long_prompts_keep_their_end_mark(clip_folder: Path) -> None:
    """A prompt longer than 40 tokens is cut before its end mark, and has the vector of what is left."""
    long = "red red red a blue circle on the cat and the one old dog beside it all"
    whole = ids_of(long, clip_folder)
    assert len(whole) > 40
    clip: Any = clip_at(Weights(str(clip_folder)), "transformers")
    ids = clip.tokens(long)["input_ids"][0].tolist()
    assert ids == [*whole[:39], whole[-1]]
    np.testing.assert_allclose(clip.text(long).numpy(), Written(clip_folder).text(ids), atol=2e-6)


def test_prefix_goes_before_the_prompt(clip_folder: Path, samples: tuple[Sample, ...]) -> None:
    """A prefix scores as if the prompt had begun with it, and changes the id."""
    plain, prefixed = ClipScore(str(clip_folder)), ClipScore(str(clip_folder), prefix="A photo ")
    asked = Sample("x", "A photo dog", samples[0].response)
    assert prefixed.score(Sample("x", "dog", samples[0].response)) == plain.score(asked)
    assert plain.spec.id == "clip_score:tiny-clip"
    assert prefixed.spec.id == "clip_score:tiny-clip:A-photo"


def test_messages_count_by_their_last_user_turn(clip_folder: Path, samples: tuple[Sample, ...]) -> None:
    """A prompt of chat messages is the user's last one; a prompt without words leaves the sample unscored."""
    evaluator, response = ClipScore(str(clip_folder)), samples[0].response
    chat = [{"role": "system", "content": "Draw."}, {"role": "user", "content": "a dog"}]
    assert evaluator.score(Sample("x", chat, response)) == evaluator.score(Sample("x", "a dog", response))
    parts = [{"role": "user", "content": [{"type": "text", "text": "a dog"}, {"type": "image"}]}]
    assert evaluator.score(Sample("x", parts, response)) == evaluator.score(Sample("x", "a dog", response))
    for empty in ("", "  ", [{"role": "system", "content": "Draw."}]):
        with pytest.raises(UnscoredError, match="no words"):
            evaluator.score(Sample("x", empty, response))


def test_what_is_no_picture_is_unscored(clip_folder: Path, samples: tuple[Sample, ...], tmp_path: Path) -> None:
    """Damaged bytes, a missing file and a text are unscored with the reason, never 0."""
    evaluator = ClipScore(str(clip_folder))
    with pytest.raises(UnscoredError, match="damaged"):
        evaluator.score(samples[5])
    with pytest.raises(UnscoredError, match="not there"):
        evaluator.score(Sample("x", "a dog", Media("image", path=tmp_path / "none.png")))
    with pytest.raises(UnscoredError, match="is a text"):
        evaluator.score(Sample("x", "a dog", "a dog"))


def test_missing_weights_are_refused_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name on the hub that was never fetched is refused with the command that fetches it; the spec can be read all the same."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    evaluator = ClipScore("openai/clip-vit-base-patch32")
    state = evaluator.probe()
    assert isinstance(state, Refused)
    assert "is not on this machine" in state.reason
    assert 'hf download openai/clip-vit-base-patch32 --include "*.json" "*.txt" "*.safetensors"' in state.fix
    assert evaluator.spec.id == "clip_score:clip-vit-base-patch32"
    assert evaluator.spec.assets == ()


def test_the_hub_cache_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip_folder: Path, samples: tuple[Sample, ...]
) -> None:
    """A name whose snapshot lies in the hub's cache is found there, and scores and digest are those of the same folder."""
    repo = tmp_path / "models--owner--tiny-clip"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / ("0" * 40)).symlink_to(clip_folder, target_is_directory=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached, plain = ClipScore("owner/tiny-clip"), ClipScore(str(clip_folder))
    assert isinstance(cached.probe(), Available)
    assert cached.score(samples[0]) == plain.score(samples[0])
    assert cached.spec == plain.spec


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (32, 32)])
def test_odd_sizes_are_scored(clip_folder: Path, drawn: Callable[..., Image.Image], as_media: Any, width: int, height: int) -> None:
    """A picture of one pixel and a strip have a score."""
    score = ClipScore(str(clip_folder)).score(Sample("x", "a dog", as_media(drawn(1, width, height))))
    assert -1 <= score["cosine"] <= 1


def test_broken_weights_give_no_number(new_clip: Callable[..., Path], tmp_path: Path, samples: tuple[Sample, ...]) -> None:
    """Weights that are not finite give nan, which the harness counts as unscored, and no number within the scale."""
    folder = new_clip(tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    state["text_projection.weight"][0, 0] = math.nan
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert all(math.isnan(value) for value in ClipScore(str(folder)).score(samples[0]).values())


def test_code_beside_the_weights_is_not_run(new_clip: Callable[..., Path], tmp_path: Path, samples: tuple[Sample, ...]) -> None:
    """A folder that names code of its own for its tokenizer is read without it, and nobody is asked."""
    folder = new_clip(tmp_path / "clip")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: ...\n")
    for name in ("tokenizer_config.json", "preprocessor_config.json", "config.json"):
        settings = json.loads((folder / name).read_text())
        settings["auto_map"] = {"AutoTokenizer": ["own.Own", None], "AutoImageProcessor": "own.Own", "AutoModel": "own.Own"}
        (folder / name).write_text(json.dumps(settings))
    assert -1 <= ClipScore(str(folder)).score(samples[0])["cosine"] <= 1
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_vocabulary_is_refused(new_clip: Callable[..., Path], tmp_path: Path) -> None:
    """Weights without a vocabulary, or without the settings of the image processor, are refused before anything is drawn."""
    folder = new_clip(tmp_path / "clip")
    assert isinstance(ClipScore(str(folder)).probe(), Available)
    (folder / "preprocessor_config.json").unlink()
    state = ClipScore(str(folder)).probe()
    assert isinstance(state, Refused)
    assert "preprocessor_config.json" in state.reason


def test_ids_need_no_quotes(clip_folder: Path) -> None:
    """What YAML would read as its own in a gate file becomes a dash in an id."""
    assert ClipScore(str(clip_folder), prefix="A photo, {of} [a]: ").spec.id == "clip_score:tiny-clip:A-photo-of-a"


@pytest.mark.parametrize("what", ["nothing", "no weights", "another kind"])
def test_wrong_folders_are_refused(what: str, tmp_path: Path) -> None:
    """A folder that is not there, one without weights and one of another kind of model are refused with what was found."""
    folder = tmp_path / "model"
    if what != "nothing":
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "clip" if what == "no weights" else "bert"}))
    if what == "another kind":
        save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    state = ClipScore(str(folder)).probe()
    assert isinstance(state, Refused)
    expected = {"nothing": "no config.json", "no weights": "weights are missing", "another kind": "of type 'bert', expected 'clip'"}
    assert expected[what] in state.reason


def test_a_spec_follows_its_weights(new_clip: Callable[..., Path], tmp_path: Path, samples: tuple[Sample, ...]) -> None:
    """Other weights in the same folder have another digest, and are what scores from then on."""
    folder = new_clip(tmp_path / "clip", seed=1)
    evaluator = ClipScore(str(folder))
    before, asset = evaluator.score(samples[0]), evaluator.spec.assets[0]
    new_clip(folder, seed=2)
    assert evaluator.spec.assets[0].digest != asset.digest
    assert evaluator.score(samples[0]) != before


def test_licence_is_read_from_the_card(clip_folder: Path, new_clip: Callable[..., Path], tmp_path: Path) -> None:
    """The licence in a spec is what the head of the model's card says; without a card it says that it is unknown."""
    folder = new_clip(tmp_path / "clip")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# A model\nlicense: none\n")
    assert ClipScore(str(folder)).spec.assets[0].licence == "mit"
    assert "see-its-card" in ClipScore(str(clip_folder)).spec.assets[0].licence


def test_open_clip_that_raises_counts_as_missing(monkeypatch: pytest.MonkeyPatch, clip_folder: Path) -> None:
    """An open_clip whose import raises RuntimeError, as with a torchvision of another build, is left alone."""
    import builtins

    real = builtins.__import__

    def clash(name: str, *more: Any, **named: Any) -> Any:
        if name == "open_clip":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", clash)
    assert not open_clip_imports()
    monkeypatch.setattr(clips, "has_open_clip_layout", lambda folder: True)
    state = ClipScore(str(clip_folder), library="open_clip").probe()
    assert isinstance(state, Refused)
    assert "does not import" in state.reason


def open_clip_layout(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    """Adds open_clip's files beside those of transformers."""
    save_file(state, folder / "open_clip_model.safetensors")
    words = state["token_embedding.weight"].shape[0]
    text = {
        "context_length": 40,
        "vocab_size": words,
        "width": 64,
        "heads": 2,
        "layers": 2,
        "mlp_ratio": 1.5,
        "hf_tokenizer_name": "x",
    }
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32, "mlp_ratio": 1.5}
    settings = {
        "model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True},
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return folder


def test_open_clip_gives_the_same_scores(
    new_clip: Callable[..., Path], open_clip_state: Callable[[Path], Any], tmp_path: Path, samples: tuple[Sample, ...]
) -> None:
    """open_clip and transformers agree on every vector and score of the same weights to 2e-6; `auto` takes open_clip."""
    if not open_clip_imports():
        pytest.skip("open_clip does not import here (pip install open_clip_torch, with a torchvision that fits torch)")
    folder = new_clip(tmp_path / "clip")
    open_clip_layout(folder, open_clip_state(folder))
    weights = Weights(str(folder))
    auto = clip_at(weights)
    assert type(auto).__name__ == "OpenClip"
    assert auto.scale == pytest.approx(clip_at(weights, "transformers").scale, rel=1e-6)
    ours = {name: ClipScore(str(folder), library=name) for name in ("open_clip", "transformers")}
    assert all(isinstance(one.probe(), Available) for one in ours.values())
    for sample in samples[:5]:
        scores = [one.score(sample)["cosine"] for one in ours.values()]
        assert scores[0] == pytest.approx(scores[1], abs=2e-6)
