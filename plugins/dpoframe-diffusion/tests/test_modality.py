"""The diffusion modality keeps the contract of modalities, checks what it is given, and learns what it is shown."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import sys
from typing import Any, ClassVar

import pytest
import torch
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.modality import DiffusionModality
from dpoframe_diffusion.timesteps import TimestepSection
from pydantic import TypeAdapter, ValidationError

from dpoframe import CheckpointError, ConfigError, DataError, Example, MachineError, Media
from dpoframe.testing import ModalityContract

SMALL = FramingSection(resolution=16)
DRAWN: dict[str, Any] = {"steps": 2, "width": 16, "height": 16}


class TestFull(ModalityContract):
    """Stable Diffusion, all weights trained."""

    settings: ClassVar = DRAWN


class TestVelocity(ModalityContract):
    """Stable Diffusion 2, predicting the velocity, nothing kept on disk."""

    settings: ClassVar = DRAWN


class TestAdapters(ModalityContract):
    """Stable Diffusion XL, adapters trained, pictures cropped and mirrored at random, times from the middle."""

    settings: ClassVar = DRAWN


@pytest.fixture(autouse=True, scope="module")
def _modalities(sd, sd_v, sdxl, pairs):
    """The pipelines' folders are made at run time, so the contracts get their modalities here."""
    TestFull.modality = DiffusionModality(model=str(sd), framing=SMALL)
    TestVelocity.modality = DiffusionModality(model=str(sd_v), framing=SMALL, cache=False)
    framing = FramingSection(resolution=16, crop="random", flip=True)
    times = TimestepSection("logit_normal", low=0.1, high=0.9)
    TestAdapters.modality = DiffusionModality(model=str(sdxl), lora=LoraSection(r=2), framing=framing, timesteps=times)
    for contract in (TestFull, TestVelocity, TestAdapters):
        contract.pairs = pairs(3)


def test_recipe_keys(sd):
    """A recipe's mapping becomes the modality; unknown keys and values of the wrong kind are refused."""
    reader = TypeAdapter(DiffusionModality)
    given = {
        "model": str(sd),
        "lora": {"r": 8, "target_modules": ["to_q"]},
        "framing": {"resolution": 32, "buckets": True, "multiple": 8},
        "timesteps": {"distribution": "logit_normal", "mean": 0.5},
    }
    made = reader.validate_python(given)
    assert made.lora == LoraSection(r=8, target_modules=("to_q",))
    assert made.framing == FramingSection(resolution=32, buckets=True, multiple=8)
    assert made.timesteps == TimestepSection("logit_normal", mean=0.5)
    for wrong in ({"modle": "x"}, {"dtype": "int8"}, {"lora": {"rank": 1}}, {"timesteps": {"distribution": "cosine"}}):
        with pytest.raises(ValidationError):
            reader.validate_python({**given, **wrong})


def test_values_that_cannot_be_are_named_together():
    """Every impossible value is named in one error."""
    with pytest.raises(ValueError, match=r"model is empty.*generation_batch.*framing.*timesteps.*lora.r is 0.*lora.alpha"):
        DiffusionModality(
            model="",
            generation_batch=0,
            framing=FramingSection(resolution=0),
            timesteps=TimestepSection(std=0.0),
            lora=LoraSection(r=0, alpha=-1.0),
        )
    with pytest.raises(ValueError, match="float16 needs a lora section"):
        DiffusionModality("x", dtype="float16")


def test_every_field_is_documented():
    """The docstring, which is the recipe's reference, names every key."""
    for part in (DiffusionModality, LoraSection, TimestepSection, FramingSection):
        for field in dataclasses.fields(part):
            assert f"\n        {field.name}: " in str(part.__doc__), field.name


def test_it_pickles_after_use(sd, examples):
    """A modality that has scored pickles, and the copy makes the same batches."""
    modality = DiffusionModality(model=str(sd), framing=SMALL)
    first = modality.collate(examples())
    again = pickle.loads(pickle.dumps(modality)).collate(examples())
    assert torch.equal(first.groups[0].noisy, again.groups[0].noisy)


def test_frozen_parts_are_not_in_the_policy(sd, sdxl, monkeypatch):
    """`build` gives the UNet alone: neither VAE nor text encoders are loaded for it."""
    import diffusers
    import transformers

    def refuse(*given: Any, **named: Any) -> None:
        raise AssertionError("a frozen part was loaded")

    for owner in (diffusers.AutoencoderKL, transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection):
        monkeypatch.setattr(owner, "from_pretrained", refuse)
    for folder in (sd, sdxl):
        model = DiffusionModality(model=str(folder), framing=SMALL).build()
        assert isinstance(model, diffusers.UNet2DConditionModel)
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_prepared_batches_need_no_frozen_parts(sd, pairs, examples, monkeypatch, tmp_path):
    """After `prepare` batches are made from what is kept: neither VAE nor text encoder is loaded any more."""
    from dpoframe_diffusion.frozen import Frozen

    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path))
    modality = DiffusionModality(model=str(sd), framing=SMALL, dtype="bfloat16", lora=LoraSection())
    asked = examples(pairs(3))
    modality.prepare(asked[place] for place in (0, 3, 1, 4, 2, 5))

    def refuse(*given: Any, **named: Any) -> None:
        raise AssertionError("a frozen part was used")

    monkeypatch.setattr(Frozen, "moments", refuse)
    monkeypatch.setattr(Frozen, "prompts", refuse)
    assert len(modality.collate(asked).groups[0].place) == 6


def test_fingerprint_knows_scores_from_speed(sd, sd_v, tmp_path):
    """What changes scores changes the fingerprint; what changes speed or training alone does not."""
    modality = DiffusionModality(model=str(sd), framing=SMALL)
    same = {"gradient_checkpointing": True, "lora": LoraSection(), "cache": False, "generation_batch": 4}
    assert dataclasses.replace(modality, **same).fingerprint() == modality.fingerprint()
    moved = tmp_path / "moved"
    shutil.copytree(sd, moved)
    assert dataclasses.replace(modality, model=str(moved)).fingerprint() == modality.fingerprint()
    changes = (
        {"model": str(sd_v)},
        {"dtype": "bfloat16"},
        {"framing": FramingSection(resolution=32)},
        {"timesteps": TimestepSection(low=0.5)},
    )
    for change in changes:
        assert dataclasses.replace(modality, **change).fingerprint() != modality.fingerprint(), change


def test_another_vae_is_another_fingerprint(sd, tmp_path):
    """The same pipeline with a VAE scaled otherwise has another fingerprint: cached scores of the one are not the other's."""
    other = tmp_path / "other"
    shutil.copytree(sd, other)
    config = json.loads((other / "vae" / "config.json").read_text())
    (other / "vae" / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.5}))
    one, two = (DiffusionModality(model=str(folder), framing=SMALL).fingerprint() for folder in (sd, other))
    assert {name for name in one if one[name] != two[name]} == {"vae"}


def test_measure_reads_headers_alone(sd, picture):
    """A picture is one unit; its digest changes with the picture and with its mask, not with seed or pair."""
    modality, plain = DiffusionModality(model=str(sd), framing=SMALL), picture(0, True)
    first = modality.measure(Example("a disc", plain, 1, "a"))
    assert (first.prompt, first.response) == (0, 1)
    assert modality.measure(Example("a disc", plain, 2, "b")) == first
    masked = dataclasses.replace(plain, mask=picture(1, True))
    others = [Example("a ring", plain, 1, "a"), Example("a disc", picture(1, True), 1, "a"), Example("a disc", masked, 1, "a")]
    assert len({first.digest, *(modality.measure(other).digest for other in others)}) == 4


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_captions_that_are_cut_are_told(family, request, picture):
    """A caption longer than the encoders read is `truncated`: what comes after changes no score. One that just fits is not."""
    modality = DiffusionModality(model=str(request.getfixturevalue(family)), framing=SMALL)
    captions = ["x " * 14, "x " * 15, "x " * 14 + "and a disc", "x " * 13]  # with 14 words 16 tokens with beginning and end
    made = [Example(text, picture(0, True), 1, "one") for text in captions]
    assert [modality.measure(example).truncated for example in made] == [False, True, True, False]
    with torch.no_grad():
        fits, cut, far, other = modality.score(modality.build(), modality.collate(made)).value.tolist()
    assert fits == pytest.approx(cut, rel=1e-6) == pytest.approx(far, rel=1e-6)
    assert fits != pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_t5_reads_longer_captions(family, request, picture):
    """Where T5 reads too, the shortest caption that is called cut is the first to whose states more words add nothing."""
    modality = DiffusionModality(model=str(request.getfixturevalue(family)), framing=SMALL)

    def cut(words: int) -> bool:
        return modality.measure(Example("a " * words, picture(0, True), 1, "one")).truncated

    words = next(count for count in range(40, 800) if cut(count))
    texts = ["a " * (words - 1), "a " * words, "a " * words + "disc"]
    fits, first, longer = (found["prompt_embeds"] for found in modality.encodings.conditions(texts))
    assert torch.equal(first, longer)
    assert not torch.equal(fits, first)


@pytest.mark.parametrize(
    ("prompt", "response", "said"),
    [
        ("", None, "blank text, expected a caption"),
        (" \n", None, "blank text, expected a caption"),
        ([{"role": "user", "content": "a disc"}], None, "list, expected a caption"),
        ("a disc", "a text", "expected a picture"),
        ("a disc", Media("audio", data=b"x"), "expected a picture"),
        ("a disc", Media("image", data=b"no picture"), "no picture|picture"),
    ],
)
def test_what_cannot_be_scored_is_a_data_error(sd, picture, prompt, response, said):
    """A prompt that is no caption, and a response that is no picture, are told apart, when measured and when collated."""
    modality = DiffusionModality(model=str(sd), framing=SMALL)
    example = Example(prompt, picture(0, True) if response is None else response, 1, "pair7")
    for do in (modality.measure, lambda one: modality.collate([one])):
        with pytest.raises(DataError, match=said):
            do(example)


def _changed(folder, target, **files: dict[str, Any]):
    """A copy of a pipeline with entries of JSON files changed; names have `__` for the folder's slash."""
    shutil.copytree(folder, target)
    for name, entries in files.items():
        file = target / f"{name.replace('__', '/')}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return target


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model_index": {"_class_name": "StableDiffusionInpaintPipeline"}}, "StableDiffusionInpaintPipeline, which cannot"),
        ({"model_index": {"_class_name": "WhateverPipeline"}}, "StableDiffusionXLPipeline"),
        ({"scheduler__scheduler_config": {"prediction_type": "flow_prediction"}}, "'flow_prediction'"),
        ({"unet__config": {"in_channels": 9}}, "takes 9 channels and its VAE makes 4"),
        ({"unet__config": {"out_channels": 8}}, "learned variance"),
        ({"unet__config": {"in_channels": 9}, "scheduler__scheduler_config": {"prediction_type": "x"}}, "(?s)9 channels.*'x'"),
        ({"unet__config": {"addition_embed_type": "text_time"}}, "addition_embed_type text_time.*another model"),
        ({"unet__config": {"class_embed_type": "timestep"}}, "class_embed_type timestep"),
        ({"scheduler__scheduler_config": {"beta_schedule": "exp"}}, "no schedule of noise of .*'exp'"),
    ],
)
def test_pipelines_that_cannot_be_aligned_are_refused(sd, tmp_path, files, said):
    """Before any weights are loaded: the wrong class, a prediction not handled, channels that do not fit, all at once."""
    modality = DiffusionModality(model=str(_changed(sd, tmp_path / "changed", **files)), framing=SMALL)
    for do in (modality.require, modality.build, lambda: modality.prepare([])):
        with pytest.raises(ConfigError, match=said):
            do()


def test_what_an_old_config_leaves_out_is_its_classes_default(sd, tmp_path, examples):
    """A VAE without `scaling_factor` in its config, as that of Stable Diffusion 1.5, has latents of the scale in diffusers."""
    from diffusers import AutoencoderKL

    old = _changed(sd, tmp_path / "old")
    config = json.loads((old / "vae" / "config.json").read_text())
    del config["scaling_factor"]
    (old / "vae" / "config.json").write_text(json.dumps(config))
    meant = AutoencoderKL.from_pretrained(old, subfolder="vae").config.scaling_factor
    assert meant == 0.18215
    told = _changed(sd, tmp_path / "told", vae__config={"scaling_factor": meant})
    found, wanted = (
        DiffusionModality(model=str(folder), framing=SMALL).collate(examples()).groups[0].noisy for folder in (old, told)
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    modality = DiffusionModality(model=str(sd), framing=SMALL)
    assert not torch.allclose(found, modality.collate(examples()).groups[0].noisy, atol=0.01), "the scale tells nothing here"


def test_sizes_that_the_model_cannot_take_are_refused(sd):
    """A resolution that the VAE does not divide is named with the nearest one."""
    with pytest.raises(ConfigError, match=r"framing.resolution: is 17, no multiple of 2. Take 16."):
        DiffusionModality(model=str(sd), framing=FramingSection(resolution=17)).build()


def test_variants_are_looked_up(sd, tmp_path):
    """A variant that is not there, and one that is there alone and was not named, are told; the one that is there loads."""
    with pytest.raises(ConfigError, match=r"variant: is fp16, and the unet has no such weights. Leave the key out"):
        DiffusionModality(model=str(sd), framing=SMALL, variant="fp16").build()
    half = tmp_path / "half"
    shutil.copytree(sd, half)
    for part in ("unet", "vae"):
        (half / part / "diffusion_pytorch_model.safetensors").rename(half / part / "diffusion_pytorch_model.fp16.safetensors")
    for given in (None, "ema"):
        with pytest.raises(ConfigError, match=r"has weights of fp16 alone. Set variant: fp16"):
            DiffusionModality(model=str(half), framing=SMALL, variant=given).build()
    assert DiffusionModality(model=str(half), framing=SMALL, variant="fp16").build().training


def test_missing_pipelines_are_told(sd, tmp_path, monkeypatch):
    """A folder that is not there, an empty one, a part, the folder above, a file and a name on the hub: each says what to do."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.safetensors").write_bytes(b"x")
    cases = {
        str(tmp_path / "nowhere"): "There is no pipeline at",
        "no/such/thing": "There is no pipeline at",
        str(tmp_path / "empty"): "holds no model_index.json.*nothing",
        str(sd / "unet"): "one part of a pipeline",
        str(sd.parent): f"Did you mean '{sd}'",
        str(tmp_path / "file.safetensors"): "from_single_file",
    }
    for model, said in cases.items():
        with pytest.raises(ConfigError, match=said):
            DiffusionModality(model=model).build()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MachineError, match="hf download nobody/nothing"):
        DiffusionModality(model="nobody/nothing").build()


def test_a_whole_pipeline_needs_its_origin_no_more(sd, tmp_path, examples):
    """A run's model that is a whole pipeline is read, and scores, where the pipeline that it was made from is not at hand."""
    modality = DiffusionModality(model=str(sd), framing=SMALL)
    model = modality.build()
    with torch.no_grad():
        model.conv_out.bias.add_(1)
        wanted = modality.score(model, modality.collate(examples())).value.tolist()
    (tmp_path / "out").mkdir()
    modality.save(model, tmp_path / "out")
    elsewhere = dataclasses.replace(modality, model=str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="There is no pipeline at"):
        elsewhere.collate(examples())
    elsewhere.settle(tmp_path / "out")
    elsewhere.check_generation({"width": 16, "height": 16})  # before any weights are read
    with torch.no_grad():
        found = elsewhere.score(elsewhere.load(tmp_path / "out"), elsewhere.collate(examples()))
    assert found.value.tolist() == wanted


def test_damaged_weights_are_told(sd, tmp_path, capfd):
    """Weights that are cut off, and weights that lack layers, are errors of the pipeline's files, not random layers.

    The libraries say nothing beside.
    """
    from safetensors.torch import load_file, save_file

    for name in ("cut", "lacking"):
        shutil.copytree(sd, tmp_path / name)
    cut, lacking = (tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors" for name in ("cut", "lacking"))
    cut.write_bytes(cut.read_bytes()[:1000])
    kept = load_file(lacking)
    kept.pop("conv_out.weight")
    save_file(kept, lacking, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="unet of the pipeline"):
        DiffusionModality(model=str(tmp_path / "cut"), framing=SMALL).build()
    with pytest.raises(CheckpointError, match=r"conv_out.weight"):
        DiffusionModality(model=str(tmp_path / "lacking"), framing=SMALL).build()
    assert capfd.readouterr() == ("", "")


def test_adapters_that_do_not_fit_are_told(sd):
    """Layers that are not there are a fault of the recipe, with the names that were given."""
    with pytest.raises(ConfigError, match=r"target_modules \['q_proj'\] do not fit UNet2DConditionModel"):
        DiffusionModality(model=str(sd), framing=SMALL, lora=LoraSection(target_modules=("q_proj",))).build()


def test_fresh_adapters_follow_from_their_seed(sd):
    """Two builds have the same adapters whatever torch's state; another seed gives others, and torch's state stays."""

    def adapters(seed: int) -> list[torch.Tensor]:
        model = DiffusionModality(model=str(sd), framing=SMALL, lora=LoraSection(seed=seed)).build()
        return [parameter for parameter in model.parameters() if parameter.requires_grad]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = adapters(0)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert all(torch.equal(one, two) for one, two in zip(first, adapters(0), strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, adapters(1), strict=True))


def test_without_an_adapter_nothing_is_switched_off(sd):
    """Reference kind adapter without a lora section is a fault of the recipe."""
    modality = DiffusionModality(model=str(sd), framing=SMALL)
    with pytest.raises(ConfigError, match="lora section"), modality.without_adapter(modality.build()):
        pass


def test_importing_the_plugin_is_cheap():
    """The entry point's module and the modality's own import neither torch nor diffusers."""
    import subprocess

    code = (
        "import sys, dpoframe_diffusion, dpoframe_diffusion.modality as m; m.DiffusionModality('x');"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
