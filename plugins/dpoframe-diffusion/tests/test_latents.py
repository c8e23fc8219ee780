"""Encodings: the same with the cache and without, made once, and never another VAE's."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from dpoframe_diffusion import latents
from dpoframe_diffusion.framing import FramingSection, framed, frames, pixels
from dpoframe_diffusion.images import opened
from dpoframe_diffusion.latents import Encodings, cache_folder
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.modality import DiffusionModality
from safetensors.torch import load_file, save_file

from dpoframe import DataError, MachineError

SECTION = FramingSection(resolution=16, multiple=8)
PROMPTS = ["a disc", "something red", "a disc"]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    """Each test has a cache of its own."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def framed_pictures(examples):
    """Six pictures with their frames."""
    given = examples()
    return [(example.response, frame) for example, frame in zip(given, frames(given, SECTION), strict=True)]


@pytest.fixture
def copied(sd, tmp_path):
    """A copy of the Stable Diffusion that a test may change."""
    return shutil.copytree(sd, tmp_path / "copy")


def change(file, name, value):
    """Sets a weight in a file."""
    weights = load_file(file)
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, file, {"format": "pt"})


def forbid(monkeypatch, encodings):
    """Nothing may be encoded any more."""

    def refuse(*_):
        raise AssertionError("encoded although it is kept")

    monkeypatch.setattr(encodings.frozen, "moments", refuse)
    monkeypatch.setattr(encodings.frozen, "prompts", refuse)


def same(first, second):
    """Whether lists of moments or conditions are equal to the bit."""
    plain = [[tuple(one.values()) if isinstance(one, dict) else one for one in many] for many in (first, second)]
    return all(torch.equal(a, b) for one, two in zip(*plain, strict=True) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_the_cache_changes_no_bit(name, request, framed_pictures, monkeypatch):
    """Encoded anew, prepared, met in a batch, or read by another process's object: the same to the bit."""
    where = Location(str(request.getfixturevalue(name)))
    plain = Encodings(where, cache=False)
    moments, conditions = plain.moments(framed_pictures), plain.conditions(PROMPTS)
    assert not cache_folder().exists()
    prepared = Encodings(where)
    prepared.prepare(PROMPTS, framed_pictures)
    for encodings in (prepared, Encodings(where)):
        forbid(monkeypatch, encodings)
        assert same(encodings.moments(framed_pictures), moments)
        assert same(encodings.conditions(PROMPTS), conditions)
    # The arithmetic itself, by diffusers, for one of them.
    media, frame = framed_pictures[2]
    with torch.no_grad():
        posterior = plain.frozen.vae.encode(pixels(opened(media), frame)[None]).latent_dist
    assert torch.equal(moments[2][0], posterior.mean[0])
    assert torch.equal(moments[2][1], posterior.std[0])


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_scores_are_the_same_with_the_cache_and_without(name, request, examples):
    """Scores are equal to the bit: prepared, read again, or encoded in each batch, together or one by one."""
    folder = str(request.getfixturevalue(name))
    kept, anew = (DiffusionModality(model=folder, framing=SECTION, cache=cache) for cache in (True, False))
    model, given = kept.build().eval(), examples()
    half = len(given) // 2
    kept.prepare(one for pair in zip(given[:half], given[half:], strict=True) for one in pair)
    with torch.no_grad():
        scores = [modality.score(model, modality.collate(given)).value for modality in (kept, kept, anew)]
        alone = [anew.score(model, anew.collate([one])).value for one in given]
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])
    torch.testing.assert_close(torch.cat(alone), scores[0], rtol=1e-6, atol=1e-7)


def test_a_miss_is_encoded_and_kept(sd, framed_pictures, monkeypatch):
    """What a batch lacks is made there, once, whatever it shares the batch with."""
    first = Encodings(Location(str(sd)))
    some = first.moments(framed_pictures[:2])
    both = first.moments(framed_pictures)
    assert same(both[:2], some)
    assert first.latent(*framed_pictures[5])[0].shape == (4, 8, 8)
    assert same([first.prompt("a disc")], first.conditions(["a disc"]))
    later = Encodings(Location(str(sd)))
    forbid(monkeypatch, later)
    assert same(later.moments(framed_pictures), both)


def test_nothing_frozen_is_alive_after_preparing(sd, framed_pictures, alive):
    """Neither VAE nor text encoder stays in memory, also where preparing fails; nor do lookups bring them back."""
    encodings = Encodings(Location(str(sd)))

    encodings.prepare(PROMPTS, framed_pictures)
    assert alive() == []
    encodings.moments(framed_pictures)
    encodings.conditions(PROMPTS)
    assert alive() == []

    def failing():
        yield framed_pictures[0][0], framed((16, 16), (8, 8))
        assert "AutoencoderKL" in alive()
        raise DataError("the next picture is damaged")

    with pytest.raises(DataError, match="next picture"):
        encodings.prepare([], failing())
    assert alive() == []


def test_latents_of_another_vae_are_never_served(sd, copied, framed_pictures):
    """A VAE with other weights, or another setting, has encodings of its own; the text encoders' are shared."""
    media = framed_pictures[0]
    first = Encodings(Location(str(sd)))
    first.prepare(PROMPTS, [media])
    change(copied / "vae" / "diffusion_pytorch_model.safetensors", "encoder.conv_in.bias", 0.5)
    other = Encodings(Location(str(copied)))
    assert not same([other.latent(*media)], [first.latent(*media)])
    assert same([other.latent(*media)], [Encodings(Location(str(copied)), cache=False).latent(*media)])
    assert other.images.folder != first.images.folder
    assert other.texts.folder == first.texts.folder
    change(copied / "text_encoder" / "model.safetensors", next(iter(load_file(copied / "text_encoder" / "model.safetensors"))), 0.1)
    third = Encodings(Location(str(copied)))
    assert third.images.folder == other.images.folder
    assert not same([third.prompt("a disc")], [first.prompt("a disc")])


def test_types_are_kept_apart(sd):
    """Text encoders in half precision give other embeddings than in full: they are not mixed."""
    full, half = Encodings(Location(str(sd))), Encodings(Location(str(sd)), "bfloat16")
    assert full.prompt("a disc")["prompt_embeds"].dtype == torch.float32
    assert half.prompt("a disc")["prompt_embeds"].dtype == torch.bfloat16
    # The VAE is float32 in both.
    assert full.images.folder == half.images.folder


def test_frames_are_kept_apart(sd, picture, monkeypatch):
    """Size, crop and flip make another encoding of a picture, which is decoded once for those that follow one another."""
    media = picture(3, False, (20, 32))
    several = [framed((32, 20), (16, 16), place, flip) for place in (0.0, 1.0) for flip in (False, True)]
    several.append(framed((32, 20), (16, 8)))
    decoded = []
    monkeypatch.setattr(latents, "opened", lambda media: decoded.append(media) or opened(media))
    found = Encodings(Location(str(sd))).moments([(media, frame) for frame in several])
    assert len(decoded) == 1
    assert found[4][0].shape == (4, 4, 8)
    assert all(not torch.equal(found[one][0], found[two][0]) for one in range(4) for two in range(one))


def test_preparing_goes_on_where_it_was_cut_off(sd, framed_pictures, monkeypatch):
    """Shards are written on the way: what was encoded before an interruption is not encoded again."""
    monkeypatch.setattr(latents, "_SHARD", 1)
    encodings = Encodings(Location(str(sd)))

    def cut():
        yield from framed_pictures[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encodings.prepare([], cut())
    again = Encodings(Location(str(sd)))
    encoded = []
    inner = again.frozen.moments
    monkeypatch.setattr(again.frozen, "moments", lambda pixels: encoded.append(1) or inner(pixels))
    again.prepare([], framed_pictures + framed_pictures)
    assert len(encoded) == 3


def test_a_damaged_shard_costs_only_work(sd, framed_pictures, caplog):
    """A shard that was damaged between runs is told of, and its latents are made again."""
    encodings = Encodings(Location(str(sd)))
    before = encodings.moments(framed_pictures)
    (shard,) = encodings.images.folder.glob("shard-*")
    shard.write_bytes(shard.read_bytes()[:-4000])
    assert same(Encodings(Location(str(sd))).moments(framed_pictures), before)
    assert "made again" in caplog.text


def test_latents_that_are_not_finite(copied, framed_pictures, tmp_path, picture):
    """The picture is named, with what to do; nothing of it is kept."""
    file = tmp_path / "bright.png"
    file.write_bytes(picture(1, True).data)
    media = type(picture(1, True))("image", path=file)
    change(copied / "vae" / "diffusion_pytorch_model.safetensors", "encoder.conv_in.bias", float("inf"))
    encodings = Encodings(Location(str(copied)))
    with pytest.raises(DataError, match=r"bright\.png has a latent that is not finite \(VAE in float32\)\. Its weights"):
        encodings.prepare([], [(media, framed((16, 16), (16, 16)))])
    assert list(encodings.images.folder.glob("*")) == []
    with pytest.raises(DataError, match=r"overflows in float16.*force_upcast: true"):
        latents._check_finite(media, torch.float16, torch.tensor([float("nan")]))


def test_captions_that_are_not_finite(copied):
    """The caption is named, with what to do; nothing of it is kept."""
    file = copied / "text_encoder" / "model.safetensors"
    change(file, next(name for name in load_file(file) if name.endswith("final_layer_norm.bias")), float("nan"))
    encodings = Encodings(Location(str(copied)))
    with pytest.raises(DataError, match="not finite for the caption 'a disc'"):
        encodings.prompt("a disc")
    assert list(encodings.texts.folder.glob("*")) == []


def test_float16_overflow(copied, picture):
    """A VAE that is told to run in float16 and overflows there is an error that says so; with force_upcast it is float32."""
    file = copied / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    # Within float16's range itself (65,504), but not what comes out of it.
    weights["encoder.conv_in.weight"] *= 3e4 / weights["encoder.conv_in.weight"].abs().max()
    save_file(weights, file, {"format": "pt"})
    framed_one = picture(1, True), framed((16, 16), (16, 16))
    config = json.loads((copied / "vae" / "config.json").read_text())
    for upcast, finite in ((True, True), (False, False)):
        (copied / "vae" / "config.json").write_text(json.dumps(config | {"force_upcast": upcast}))
        encodings = Encodings(Location(str(copied)), "float16")
        if finite:
            assert all(moment.isfinite().all() and moment.dtype == torch.float32 for moment in encodings.latent(*framed_one))
        else:
            with pytest.raises(DataError, match=r"not finite \(VAE in float16\).*force_upcast: true"):
                encodings.latent(*framed_one)


def test_worker_processes_read_the_cache(sd, framed_pictures):
    """Data-loading workers find what was prepared, and encode what was not, to the same bits."""
    encodings = Encodings(Location(str(sd)))
    encodings.prepare([], framed_pictures[:3])
    expected = Encodings(Location(str(sd)), cache=False).moments(framed_pictures)
    loader = torch.utils.data.DataLoader(framed_pictures, batch_size=6, num_workers=1, collate_fn=encodings.moments)
    (found,) = loader
    assert same(found, expected)


def test_a_cache_that_cannot_be_written(sd, framed_pictures, tmp_path, monkeypatch):
    """An error of the machine that says what to set; with cache: false the same works."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="cache: false"):
        Encodings(Location(str(sd))).prepare(PROMPTS, framed_pictures)
    plain = Encodings(Location(str(sd)), cache=False)
    plain.prepare(PROMPTS, framed_pictures)
    assert len(plain.moments(framed_pictures)) == 6
