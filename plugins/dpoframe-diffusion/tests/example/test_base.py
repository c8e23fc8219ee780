"""The base: trained by the script of the example, it is a pipeline that plain diffusers loads; kept, it is not made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dpoframe_diffusion.example.base_settings import BaseSettings, Sizes
from dpoframe_diffusion.example.base_training import train_base
from dpoframe_diffusion.example.digits import SIDE, WORDS, caption
from dpoframe_diffusion.example.kept_base import base, place
from dpoframe_diffusion.example.vocabulary import LENGTH, tokenizer_for

QUICK = BaseSettings(
    threads=1, batch=8, autoencoder_steps=3, denoiser_steps=4, sizes=Sizes(autoencoder=(8, 8, 8), denoiser=(8, 16))
)


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def test_words_are_tokens() -> None:
    """Every caption is its three words between a beginning and an end, padded to one length, as CLIP's tokenizer pads."""
    made = tokenizer_for([caption(label) for label in range(10)])
    seen = made([caption(7)], padding="max_length", max_length=made.model_max_length).input_ids[0]
    assert len(seen) == LENGTH
    assert made.convert_ids_to_tokens(seen) == [
        "<|startoftext|>", "a</w>", "handwritten</w>", "seven</w>", *["<|endoftext|>"] * (LENGTH - 4)
    ]  # fmt: skip
    lone = {made(word).input_ids[1] for word in WORDS}
    assert len(lone) == 10
    assert all(len(made(word).input_ids) == 3 for word in WORDS)


def test_plain_diffusers_loads_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base of a few steps is saved, loaded by diffusers alone, and draws a picture of the size of a digit's."""
    from diffusers import StableDiffusionPipeline

    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path))
    made = base(QUICK, silent)
    assert made.fresh
    pipeline = StableDiffusionPipeline.from_pretrained(made.folder)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(0)
    drawn = pipeline("a handwritten seven", num_inference_steps=2, guidance_scale=2.0, generator=noise).images[0]
    assert drawn.size == (SIDE, SIDE)
    assert made.record["weights"]["unet"] == sum(weight.numel() for weight in pipeline.unet.parameters())


def test_kept_base_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run takes the base from the cache, other settings have a place of their own, and nothing else lies there."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path))
    first = base(QUICK, silent)
    told: list[str] = []
    second = base(QUICK, lambda stage, done, total: told.append(stage))
    assert (second.fresh, second.folder, second.record) == (False, first.folder, first.record)
    assert not told
    assert place(replace(QUICK, seed=1)) != first.folder
    assert list((tmp_path / "diffusion").iterdir()) == [first.folder]


def test_run_cut_off_leaves_no_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where training is interrupted nothing stays in the cache, so that half a base is never taken for one."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path))

    def cut(stage: str, done: int, total: int) -> None:
        if stage == "denoiser":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base(QUICK, cut)
    assert list((tmp_path / "diffusion").iterdir()) == []


def test_base_follows_from_its_seed() -> None:
    """The same settings give the same weights whatever was drawn before, another seed others; torch's own state is left alone."""
    first = train_base(QUICK, silent).pipeline
    torch.rand(3)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    again = train_base(QUICK, silent).pipeline
    other = train_base(replace(QUICK, seed=1), silent).pipeline
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    for part in ("vae", "text_encoder", "unet"):
        ours, same, others = (getattr(one, part).state_dict() for one in (first, again, other))
        assert all(torch.equal(ours[name], same[name]) for name in ours)
        assert any(not torch.equal(ours[name], others[name]) for name in ours)


def test_latents_have_unit_deviation() -> None:
    """After scaling, latents of the training pictures have a standard deviation of 1, which the noise schedule counts on."""
    from dpoframe_diffusion.example.digits import digits

    pipeline = train_base(QUICK, silent).pipeline
    some = np.stack([np.asarray(one.picture(), dtype=np.float32) for one in digits("train")[:400]])
    with torch.no_grad():
        seen = pipeline.vae.encode(torch.from_numpy(some / 127.5 - 1).permute(0, 3, 1, 2)).latent_dist
        drawn = seen.sample(generator=torch.Generator().manual_seed(0)) * pipeline.vae.config.scaling_factor
    assert abs(float(drawn.std()) - 1.0) < 0.05
