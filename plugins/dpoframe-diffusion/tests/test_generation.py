"""Pictures: diffusers' own to the bit, each from its request alone, under settings that are checked before anything is loaded."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from dpoframe_diffusion import generation, schedulers
from dpoframe_diffusion.generation import generate
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.modality import DiffusionModality, LoraSection
from dpoframe_diffusion.settings import GenerationSettings
from PIL import Image

from dpoframe import ConfigError, DataError, MachineError, Media, Request

FAMILIES = ["sd", "sd_v", "sdxl", "sd3", "sd35", "flux", "flux_schnell"]
SMALL = {"steps": 2, "width": 16, "height": 16}
PROMPTS = ["a disc", "something red", "a round spot"]


def requests(settings, prompts=PROMPTS):
    """One request a prompt, with seeds from 20."""
    return [Request(str(number), prompt, 20 + number, settings) for number, prompt in enumerate(prompts)]


def drawn(model, folder, asked, batch_size=1):
    """Pictures by request, as arrays (height, width, 3)."""
    return {sample.id: array(sample) for sample in generate(model, Location(str(folder)), asked, batch_size)}


def array(sample):
    """The values of a sample's picture."""
    assert isinstance(sample.response, Media)
    return np.asarray(Image.open(io.BytesIO(sample.response.data)))


def plain(folder, request, **options):
    """The picture that diffusers draws for a request, with its whole pipeline."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, **({"add_watermarker": False} if "xl" in folder.name else {}))
    pipe.set_progress_bar_config(disable=True)
    start = torch.Generator().manual_seed(request.seed)
    return np.asarray(pipe(request.prompt, generator=start, **options).images[0])


@pytest.fixture
def model(sd):
    """The denoiser of the Stable Diffusion."""
    return Location(str(sd)).denoiser()


@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_are_diffusers_own(name, request):
    """With equal settings the picture is the one of the plain pipeline, to the bit."""
    folder = request.getfixturevalue(name)
    asked = requests(SMALL | {"guidance_scale": 3.0, "width": 24})
    found = drawn(Location(str(folder)).denoiser(), folder, asked)
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 24, "height": 16}
    for one in asked[:2]:
        assert found[one.id].shape == (16, 24, 3)
        assert np.array_equal(found[one.id], plain(folder, one, **options))
    assert not np.array_equal(found["0"], found["1"])


def test_a_picture_depends_on_its_request_alone(sd, model):
    """Alone, in company, in another order, under another global seed: the same bytes; another seed gives another picture."""
    together = {sample.id: sample for sample in generate(model, Location(str(sd)), requests(SMALL))}
    torch.manual_seed(99)
    state = torch.get_rng_state()
    for one in reversed(requests(SMALL)):
        (alone,) = generate(model, Location(str(sd)), [one])
        assert alone == together[one.id]
    assert torch.equal(state, torch.get_rng_state())
    (other,) = generate(model, Location(str(sd)), [Request("0", PROMPTS[0], 77, SMALL)])
    assert other.response != together["0"].response
    assert together["0"].finished
    assert together["0"].detail == {"length": 1.0}


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "DDPMScheduler", "LCMScheduler"])
def test_schedulers_that_draw_noise(sd, model, scheduler):
    """Noise that a scheduler adds on the way follows from the request's seed as well."""
    asked = requests(SMALL | {"scheduler": scheduler})
    together = drawn(model, sd, asked)
    torch.manual_seed(5)
    assert np.array_equal(drawn(model, sd, asked[1:2])["1"], together["1"])


def test_batches_give_the_same_pictures(sd, model):
    """Several pictures at a time are those drawn one by one, up to a step of 8 bits."""
    one_by_one = drawn(model, sd, requests(SMALL))
    together = drawn(model, sd, requests(SMALL), batch_size=2)
    for name in one_by_one:
        assert np.abs(one_by_one[name].astype(int) - together[name].astype(int)).max() <= 1


def test_base_and_aligned_start_from_the_same_noise(sd):
    """The denoiser's first input is the same tensor for two models, and the pictures differ only by what the models say."""
    modality = DiffusionModality(model=str(sd), lora=LoraSection(r=2))
    aligned = modality.build()
    for name, parameter in aligned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.5, generator=torch.Generator().manual_seed(1))
    starts = []
    hook = aligned.register_forward_pre_hook(lambda module, given: starts.append(given[0].clone()))
    (after,) = modality.generate(aligned, requests(SMALL)[:1])
    with modality.without_adapter(aligned):
        (before,) = modality.generate(aligned, requests(SMALL)[:1])
    hook.remove()
    assert len(starts) == 4
    assert torch.equal(starts[0], starts[2])
    assert after.response != before.response
    assert np.array_equal(array(before), drawn(Location(str(sd)).denoiser(), sd, requests(SMALL)[:1])["0"])


# What a scheduler of diffusers asks of numpy, called by the test without dpoframe around it.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_settings_reach_the_pipeline(sd, model):
    """A negative prompt, a scheduler with options and the number of steps give what diffusers gives for them."""
    from diffusers import DiffusionPipeline, EulerDiscreteScheduler

    settings = SMALL | {"steps": 3, "negative_prompt": "dark", "scheduler": "EulerDiscreteScheduler"}
    settings |= {"scheduler_options": {"timestep_spacing": "trailing"}, "guidance_rescale": 0.5, "guidance_scale": 4}
    (asked,) = requests(settings, PROMPTS[:1])
    pipe = DiffusionPipeline.from_pretrained(sd)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    start = torch.Generator().manual_seed(asked.seed)
    options = {"num_inference_steps": 3, "guidance_scale": 4, "guidance_rescale": 0.5, "negative_prompt": "dark"}
    wanted = pipe(asked.prompt, generator=start, width=16, height=16, **options).images[0]
    assert np.array_equal(drawn(model, sd, [asked])["0"], np.asarray(wanted))


def test_requests_of_different_settings(sd, model):
    """Each picture is drawn by its own settings, whatever stands beside it."""
    mixed = [
        Request("a", "a disc", 1, SMALL),
        Request("b", "a disc", 1, SMALL | {"width": 24}),
        Request("c", "a disc", 1, SMALL | {"scheduler": "LCMScheduler"}),
        Request("d", "a disc", 1, SMALL),
    ]
    found = drawn(model, sd, mixed, batch_size=4)
    assert found["b"].shape == (16, 24, 3)
    assert np.abs(found["a"].astype(int) - found["d"]).max() <= 1
    assert not np.array_equal(found["a"], found["c"])
    # The scheduler of one request is not left to the next.
    assert np.array_equal(drawn(model, sd, mixed[2:])["d"], drawn(model, sd, mixed[:1])["a"])


def test_faults_of_settings_are_told_at_once():
    """Unknown names with the nearest, values with what they must be, all in one error."""
    given = {"step": 5, "cfg_scale": 7, "whidth": 8, "guidance_scale": -1, "steps": 0, "height": 20, "scheduler": 3, "zzz": 1}
    with pytest.raises(ConfigError) as caught:
        GenerationSettings.read(given | {"safety_checker": None, "guidance_rescale": 2, "negative_prompt": 5})
    said = str(caught.value)
    for part in (
        "step: no such generation setting for pictures. Did you mean 'steps'?",
        "Did you mean 'guidance_scale'?",
        "Did you mean 'width'?",
        "zzz: no such generation setting for pictures. Known are steps, ",
        "guidance_scale: -1 was given; it must be a number of at least 0",
        "steps: 0",
        "height: 20 was given; it must be a multiple of 8",
        "scheduler: 3",
        "safety_checker: None",
        "guidance_rescale: 2",
        "negative_prompt: 5",
    ):
        assert part in said
    assert GenerationSettings.read({"steps": None, "scheduler_options": None}) == GenerationSettings()


def test_what_a_pipeline_does_not_take(sd, sdxl, monkeypatch):
    """Settings of other pipelines and schedulers are refused with all faults, before anything is loaded."""
    monkeypatch.setattr(generation, "pipeline", None)
    model = torch.nn.Linear(1, 1)
    asked = [
        Request("a", "a disc", 0, {"max_sequence_length": 77, "true_cfg_scale": 2.0}),
        Request("b", "a disc", 0, {"scheduler": "EulerDiscretScheduler", "safety_checker": True}),
        Request("c", "a disc", 0, {"scheduler": "DDIMScheduler", "scheduler_options": {"timestep_spaceing": "trailing"}}),
        Request("d", "a disc", 0, {"scheduler": "FlowMatchEulerDiscreteScheduler"}),
        Request("e", "a disc", 0, {"scheduler": "DPMSolverSDEScheduler"}),
    ]
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchsde" else known(name))
    monkeypatch.setattr(diffusers, "DPMSolverSDEScheduler", SimpleNamespace(_backends=["torch", "torchsde"]))
    with pytest.raises(ConfigError) as caught:
        list(generate(model, Location(str(sd)), asked))
    said = str(caught.value)
    for part in (
        "max_sequence_length: its pipeline takes no such setting",
        "true_cfg_scale",
        "Did you mean 'EulerDiscreteScheduler'?",
        "brings no safety checker",
        "scheduler_options.timestep_spaceing: DDIMScheduler has no such option. Did you mean 'timestep_spacing'?",
        "DPMSolverSDEScheduler needs torchsde, which is not installed. pip install torchsde",
        "FlowMatchEulerDiscreteScheduler is for flow matching, and this pipeline was trained with DDIMScheduler",
    ):
        assert part in said
    with pytest.raises(ConfigError, match="safety_checker"):
        list(generate(model, Location(str(sdxl)), [Request("a", "a disc", 0, {"safety_checker": True})]))


def test_the_modality_checks_settings_without_weights(sd, monkeypatch):
    """A modality tells what its pipeline does not take before a denoiser is there, and that pictures differ by their noise."""
    monkeypatch.setattr(generation, "pipeline", None)
    modality = DiffusionModality(model=str(sd))
    assert modality.check_generation({"steps": 2})
    for wrong in ({"stpes": 2}, {"true_cfg_scale": 2.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            modality.check_generation(wrong)


def test_sizes_and_prompts_that_a_pipeline_would_change_in_silence(flux):
    """A size that would be rounded, and a negative prompt that would be dropped, are refused."""
    where = Location(str(flux))
    wide = where.family.downscale(where.config("vae")) * where.family.patch
    assert list(generation._side_faults(where, GenerationSettings(width=wide * 3))) == []
    (fault,) = generation._side_faults(where, GenerationSettings(height=wide * 3 + 1))
    assert f"draws multiples of {wide}" in str(fault)
    with pytest.raises(ConfigError, match="no effect without true_cfg_scale"):
        list(generate(torch.nn.Linear(1, 1), where, [Request("a", "a disc", 0, {"negative_prompt": "dark"})]))
    settings = SMALL | {"negative_prompt": "dark", "true_cfg_scale": 2.0}
    assert drawn(where.denoiser(), flux, requests(settings, ["a disc"]))["0"].shape == (16, 16, 3)


def test_flow_pipelines_want_flow_schedulers(sd, tmp_path):
    """A model that was trained for flow matching is not sampled with a scheduler of another process."""
    folder = shutil.copytree(sd, tmp_path / "flow")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    where = Location(str(folder))
    (fault,) = schedulers.scheduler_faults(where, "DDIMScheduler", {})
    assert "is not for flow matching" in str(fault)
    assert schedulers.scheduler_faults(where, "UniPCMultistepScheduler", {"use_flow_sigmas": True}) == []
    assert schedulers.scheduler_faults(where, None, {"shift": 3.0}) == []


@pytest.mark.parametrize("prompt", [[{"role": "user", "content": "a disc"}], Media("image", data=b"x")])
def test_prompts_are_captions(sd, model, prompt):
    """Chat messages and pictures are no captions: the request is named."""
    with pytest.raises(DataError, match="The prompt of r1 is"):
        list(generate(model, Location(str(sd)), [Request("r1", prompt, 0, SMALL)]))


def test_what_a_pipeline_refuses_itself(sd, model):
    """An error of the pipeline's own checks becomes one of the settings."""
    with pytest.raises(ConfigError, match="refuses these generation settings"):
        list(generate(model, Location(str(sd)), [Request("a", "a disc", 0, SMALL | {"steps": 100000})]))


def test_a_model_that_has_diverged(sd, model):
    """Pictures that are not finite are an error, not black pictures."""
    torch.nn.init.constant_(model.conv_out.bias, float("nan"))
    with pytest.raises(ConfigError, match=r"picture of 0 is not finite.*float16.*diverged"):
        drawn(model, sd, requests(SMALL))


def test_the_model_is_left_as_it_was(sd, capfd):
    """Modes and weights are as before, also when the iterator is given up half-way; no progress bar is shown."""
    modality = DiffusionModality(model=str(sd), lora=LoraSection(r=2), gradient_checkpointing=True)
    model = modality.build()
    model.down_blocks[0].eval()
    modes = [part.training for part in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [parameter.requires_grad for parameter in model.parameters()]
    running = modality.generate(model, requests(SMALL))
    next(running)
    assert not model.training
    running.close()
    assert [part.training for part in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == grads
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_frozen_parts_are_let_go(sd, model, alive):
    """After the last picture, and where the iterator is given up, VAE and text encoders are gone; the model is not."""
    list(generate(model, Location(str(sd)), requests(SMALL)))
    assert alive() == []
    running = generate(model, Location(str(sd)), requests(SMALL))
    next(running)
    assert alive() == ["AutoencoderKL", "CLIPTextModel"]
    running.close()
    assert alive() == []
    assert model(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 16, 16)).sample.shape == (1, 4, 8, 8)


def test_memory_that_does_not_suffice(sd, model, monkeypatch):
    """Where memory runs out, size and fix are told."""

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(MachineError, match=r"16 x 16 pixels needs more memory.*smaller size"):
        drawn(model, sd, requests(SMALL))


def test_half_precision(sd):
    """A model in bfloat16 with float32 adapters draws: the frozen parts follow the type of the weights under them."""
    modality = DiffusionModality(model=str(sd), dtype="bfloat16", lora=LoraSection(r=2))
    model = modality.build()
    (sample,) = modality.generate(model, requests(SMALL)[:1])
    (full,) = drawn(Location(str(sd)).denoiser(), sd, requests(SMALL)[:1]).values()
    assert np.abs(array(sample).astype(int) - full).mean() < 8


def test_a_folder_with_a_safety_checker(sd, model, tmp_path):
    """It is not loaded unless asked for; asked for, it looks at each picture and its word is in the detail."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    folder = shutil.copytree(sd, tmp_path / "checked")
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16}
    config = CLIPConfig(vision_config=vision | {"patch_size": 8}, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    torch.nn.init.ones_(checker.concept_embeds)
    torch.nn.init.ones_(checker.special_care_embeds)
    checker.special_care_embeds_weights.data.fill_(1e3)
    checker.concept_embeds_weights.data.fill_(-1e3)
    checker.save_pretrained(folder / "safety_checker")
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        folder / "feature_extractor"
    )
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    where = Location(str(folder))
    (unchecked,) = generate(model, where, requests(SMALL)[:1])
    assert unchecked.detail == {"length": 1.0}
    assert array(unchecked).any()
    (checked,) = generate(model, where, requests(SMALL | {"safety_checker": True})[:1])
    assert checked.detail == {"length": 1.0, "nsfw": 1.0}
    assert not array(checked).any()
