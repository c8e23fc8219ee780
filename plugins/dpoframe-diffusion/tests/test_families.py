"""Every family finds its parts, encodes prompts as its pipeline does, and calls its denoiser as its pipeline does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.families import REGISTRY, family_of
from dpoframe_diffusion.families.stable_diffusion import StableDiffusion
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.modality import DiffusionModality

from dpoframe import ConfigError, generator

FAMILIES = ["sd", "sd_v", "sdxl", "sd3", "flux"]


@pytest.fixture(params=FAMILIES)
def location(request) -> Location:
    """The pipeline of each family in turn."""
    return Location(str(request.getfixturevalue(request.param)))


@pytest.mark.parametrize("name", REGISTRY)
def test_the_registry_and_the_families_agree(name):
    """Each registered class of pipelines exists in diffusers, and its family claims it."""
    import diffusers

    assert hasattr(diffusers, name)
    assert name in family_of(name).pipelines


def test_unknown_pipelines_are_refused():
    """The message names the class that was found, and those that can be aligned."""
    with pytest.raises(ConfigError, match=r"KandinskyPipeline.*StableDiffusionPipeline.*FluxPipeline"):
        family_of("KandinskyPipeline")


def test_the_parts_are_there(location):
    """The denoiser and the text parts that a family names stand in its pipelines."""
    assert {location.family.denoiser, *location.family.text_parts, "vae", "scheduler"} <= set(location.index)


def test_prompts_are_encoded_as_by_the_pipeline(location):
    """`encode_prompts` gives what the denoiser hears when the whole pipeline draws, without guidance, for that prompt."""
    heard = _drawn(location, "a disc")
    pipe = _pipeline(location)
    with torch.no_grad():
        found = location.family.encode_prompts(pipe, ["a disc"])
    assert set(found) == set(location.family.conditions)
    for name, tensor in found.items():
        assert any(tensor.shape == one.shape and torch.allclose(tensor, one, atol=1e-6) for one in heard), name


def test_prompts_together_are_as_alone(location):
    """Two prompts encoded in one go have the encodings that each has alone."""
    pipe = _pipeline(location)
    with torch.no_grad():
        both = location.family.encode_prompts(pipe, ["a disc", "something quite different"])
        second = location.family.encode_prompts(pipe, ["something quite different"])
    for name, tensor in both.items():
        assert len(tensor) == 2
        torch.testing.assert_close(tensor[1:], second[name], rtol=1e-5, atol=1e-6)


def test_latents_are_scaled_as_the_pipeline_unscales_them(location):
    """What `scale` gives, the pipeline's way back before decoding turns into the VAE's own latents."""
    latents = torch.randn(2, 4, 8, 8, generator=generator(0))
    config = location.config("vae")
    scaled = location.family.scale(latents, config)
    back = scaled / config["scaling_factor"] + (config.get("shift_factor") or 0)
    torch.testing.assert_close(back, latents)


def test_channels_are_standardised_where_the_vae_says_so():
    """A VAE that gives mean and deviation of each channel has its latents standardised, then scaled."""
    config = {"latents_mean": [1.0, 2.0], "latents_std": [2.0, 4.0], "scaling_factor": 0.5}
    latents = torch.tensor([5.0, 10.0]).view(1, 2, 1, 1)
    assert StableDiffusion().scale(latents, config).flatten().tolist() == [(5 - 1) / 2 * 0.5, (10 - 2) / 4 * 0.5]


def test_the_side_of_a_latent_is_known(location):
    """`downscale` is the ratio of a picture's side to its latent's."""
    import diffusers

    vae = diffusers.AutoencoderKL.from_pretrained(location.folder, subfolder="vae")
    side = 16
    with torch.no_grad():
        latent = vae.encode(torch.zeros(1, 3, side, side)).latent_dist.mean
    assert latent.shape[-1] * location.family.downscale(location.config("vae")) == side


def test_predictions_have_the_latents_shape(location):
    """The denoiser of every family predicts something of the shape of what it was shown, which is not square here."""
    denoiser, family = location.denoiser(), location.family
    noisy = torch.randn(2, 4, 4, 8, generator=generator(0))
    conditions = _conditions(location, ["a disc", "a ring"])
    time = torch.stack([location.process.draw(generator(seed), _anywhere()) for seed in (1, 2)])
    with torch.no_grad():
        found = family.predict(denoiser, noisy, time, conditions, torch.tensor([[8, 16, 0, 0, 8, 16]] * 2))
    assert found.shape == noisy.shape
    assert found.isfinite().all()


def test_a_prediction_hangs_on_its_own_example(location):
    """Prediction, time and prompt of one example do not reach another's in the batch."""
    denoiser, family = location.denoiser(), location.family
    noisy, sizes = torch.randn(2, 4, 8, 8, generator=generator(0)), torch.tensor([[16, 16, 0, 0, 16, 16]] * 2)
    conditions = _conditions(location, ["a disc", "a ring"])
    time = torch.stack([location.process.draw(generator(seed), _anywhere()) for seed in (1, 2)])
    with torch.no_grad():
        both = family.predict(denoiser, noisy, time, conditions, sizes)
        for place in (slice(0, 1), slice(1, 2)):
            own = {name: tensor[place] for name, tensor in conditions.items()}
            alone = family.predict(denoiser, noisy[place], time[place], own, sizes[place])
            torch.testing.assert_close(both[place], alone, rtol=1e-4, atol=1e-5)


def test_adapters_go_on_every_family(location, examples):
    """Fresh adapters on the family's own layers change no score; trained ones do, and switched off they do not."""
    modality = DiffusionModality(model=location.model, framing=FramingSection(resolution=16), lora=LoraSection(r=2))
    plain = DiffusionModality(model=location.model, framing=FramingSection(resolution=16))
    model, batch = modality.build(), modality.collate(examples()[:2])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        wanted = plain.score(plain.build(), batch).value.tolist()
        assert modality.score(model, batch).value.tolist() == wanted
        for parameter in trained:
            parameter.add_(0.1)
        assert modality.score(model, batch).value.tolist() != wanted
        with modality.without_adapter(model):
            assert modality.score(model, batch).value.tolist() == wanted


def _anywhere() -> Any:
    from dpoframe_diffusion.timesteps import TimestepSection

    return TimestepSection()


def _pipeline(location: Location) -> Any:
    import diffusers
    from dpoframe_diffusion.quiet import quiet

    with quiet():
        made = getattr(diffusers, location.family.pipelines[0]).from_pretrained(location.folder)
    made.set_progress_bar_config(disable=True)
    return made


def _conditions(location: Location, prompts: list[str]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return location.family.encode_prompts(_pipeline(location), prompts)


def _drawn(location: Location, prompt: str) -> list[torch.Tensor]:
    """Every tensor that the denoiser is given while the pipeline takes one step without guidance."""
    pipe = _pipeline(location)
    heard: list[torch.Tensor] = []
    denoiser = getattr(pipe, location.family.denoiser)
    forward = denoiser.forward

    def tensors(value: Any) -> list[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            return [value]
        if isinstance(value, dict):
            return [one for inner in value.values() for one in tensors(inner)]
        return []

    def watched(*given: Any, **named: Any) -> Any:
        heard.extend(one for value in (*given, named) for one in tensors(value))
        return forward(*given, **named)

    denoiser.forward = watched
    with torch.no_grad():
        pipe(prompt, num_inference_steps=1, guidance_scale=1.0, height=16, width=16, output_type="latent")
    return heard
