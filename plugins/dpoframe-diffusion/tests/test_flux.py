"""Flux: its transformer is called as diffusers calls it, and an aligned one is an ordinary pipeline."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.draws import draw
from dpoframe_diffusion.families.flux import Flux, packed, positions, unpacked
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.images import opened
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.modality import DiffusionModality
from dpoframe_diffusion.quiet import quiet
from PIL import Image

from dpoframe import Request, generator

SIDE = FramingSection(resolution=16)


@pytest.fixture(params=["flux", "flux_schnell"])
def folder(request) -> Path:
    """With guidance, as dev, and without, as schnell."""
    return request.getfixturevalue(request.param)


def pipeline(folder: Path) -> Any:
    """The plain pipeline of diffusers."""
    from diffusers import FluxPipeline

    with quiet():
        made = FluxPipeline.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def test_packing_is_the_pipelines_own():
    """Tokens, their positions, and the way back are those of diffusers' pipeline, for a latent that is not square."""
    from diffusers import FluxPipeline

    latents = torch.randn(2, 4, 6, 10, generator=generator(0))
    tokens = packed(latents)
    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 2, 4, 6, 10))
    assert torch.equal(positions(3, 5, tokens), FluxPipeline._prepare_latent_image_ids(2, 3, 5, "cpu", torch.float32))
    assert torch.equal(unpacked(tokens, 6, 10), latents)
    assert torch.equal(FluxPipeline._unpack_latents(tokens, 48, 80, 8), latents)


def test_the_error_is_that_of_diffusers_training_script(folder, examples):
    """The score is minus half the error of diffusers' DreamBooth script for Flux, written out.

    The input is (1 - sigma) x + sigma e, packed; the transformer hears t / 1,000 = sigma, a guidance of 3.5 for dev and none for
    schnell, T5's states, CLIP's pooled one, and positions; the target is e - x. Latents are (z - shift) * factor of the VAE.
    """
    pipe, modality = pipeline(folder), DiffusionModality(model=str(folder), framing=SIDE)
    batch = modality.collate(examples())
    with torch.no_grad():
        found = modality.score(modality.build(), batch).value
        for place, example in enumerate(examples()):
            clean, noise, sigma = clean_noise_sigma(pipe, modality, example)
            shown = (1.0 - sigma) * clean + sigma * noise
            states, pooled, text_ids = pipe.encode_prompt(example.prompt, None)
            predicted = pipe.transformer(
                hidden_states=pipe._pack_latents(shown, 1, 4, 8, 8),
                timestep=(sigma * 1000).reshape(1) / 1000,
                guidance=torch.tensor([3.5]) if pipe.transformer.config.guidance_embeds else None,
                pooled_projections=pooled,
                encoder_hidden_states=states,
                txt_ids=text_ids,
                img_ids=pipe._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float32),
                return_dict=False,
            )[0]
            predicted = pipe._unpack_latents(predicted, 16, 16, pipe.vae_scale_factor)
            error = (predicted.double() - (noise - clean).double()).square().mean()
            assert found[place].item() == pytest.approx(-error.item() / 2, rel=1e-5)


def clean_noise_sigma(pipe: Any, modality: DiffusionModality, example: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The scaled latent of a picture by the pipeline's own VAE, and what the example's seed draws for it."""
    values = torch.from_numpy(np.array(opened(example.response))).permute(2, 0, 1)[None].float() / 127.5 - 1
    posterior = pipe.vae.encode(values).latent_dist
    drawn = draw(example.seed, posterior.mean.shape[1:], modality.location.process, modality.timesteps)
    latent = posterior.mean + posterior.std * drawn.posterior
    config = pipe.vae.config
    return (latent - config.shift_factor) * config.scaling_factor, drawn.noise[None], drawn.time


def test_guidance_is_heard(flux, examples):
    """The model dev scores differently under another guidance: the number reaches the transformer."""
    modality = DiffusionModality(model=str(flux), framing=SIDE)
    model, batch = modality.build(), modality.collate(examples())
    (group,) = batch.groups
    conditions = {name: encoded[group.prompt] for name, encoded in batch.prompts.items()}

    class Other(Flux):
        guidance = 1.0

    with torch.no_grad():
        one, other = (kind().predict(model, group.noisy, group.time, conditions, group.sizes) for kind in (Flux, Other))
    assert (one - other).abs().max() > 1e-4


def test_noise_is_mixed_in_as_by_the_scheduler(flux_schnell):
    """At the times of the scheduler's own table the noisy latents are its `scale_noise`."""
    pipe, process = pipeline(flux_schnell), Location(str(flux_schnell)).process
    clean, noise = (torch.randn(5, 4, 8, 8, generator=generator(seed)) for seed in (0, 1))
    places = torch.tensor([0, 10, 500, 900, 999])
    times, sigmas = pipe.scheduler.timesteps[places], pipe.scheduler.sigmas[places]
    torch.testing.assert_close(process.noisy(clean, noise, sigmas), pipe.scheduler.scale_noise(clean, times, noise))


def test_channels_are_counted_in_packs():
    """The transformer takes four channels for one of the VAE's; any other number is of another model."""
    assert Flux().faults({"in_channels": 64, "out_channels": None}, {"latent_channels": 16}) == []
    (fault,) = Flux().faults({"in_channels": 384, "out_channels": 64}, {"latent_channels": 16})[:1]
    assert "takes 384 channels" in fault


@pytest.mark.parametrize(("name", "lora"), [("flux_schnell", None), ("flux", LoraSection(r=2))])
def test_train_save_load_and_draw(name, lora, pairs, examples, tmp_path, request):
    """Some steps of Diffusion-DPO raise the margin; what is saved loads in plain diffusers and draws what the modality draws."""
    folder = request.getfixturevalue(name)
    modality = DiffusionModality(model=str(folder), framing=SIDE, lora=lora)
    model = modality.build()
    batch = modality.collate(examples(pairs(3)))
    with torch.no_grad():
        start = modality.score(model, batch).value
    margins = [margin(modality.score(model, batch).value, start)]
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-3 if lora is None else 1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        value = modality.score(model, batch).value
        loss = -torch.nn.functional.logsigmoid(100 * margin(value, start)).mean()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            margins.append(margin(modality.score(model, batch).value, start))
    assert margins[0].abs().max() == 0
    assert margins[-1].mean() > margins[0].mean()
    modality.save(model, tmp_path)
    check_drawn(modality, model, pipeline(folder), tmp_path)


def margin(value: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """How much more each pair's chosen picture has gained than its rejected one."""
    gain = value - start
    return gain[: len(gain) // 2] - gain[len(gain) // 2 :]


def check_drawn(modality: DiffusionModality, model: Any, base: Any, saved: Path) -> None:
    """The saved model in plain diffusers draws the picture that the modality draws, and not the base's."""
    settings = {"steps": 2, "width": 16, "height": 16, "guidance_scale": 1.0}
    (sample,) = modality.generate(model, [Request("one", "a disc", 5, settings)])
    (reloaded,) = modality.generate(modality.load(saved), [Request("one", "a disc", 5, settings)])
    assert reloaded.response == sample.response
    drawn = np.asarray(Image.open(io.BytesIO(sample.response.data))).astype(int)
    options = {"num_inference_steps": 2, "width": 16, "height": 16, "guidance_scale": 1.0}
    before = np.asarray(base("a disc", generator=torch.Generator().manual_seed(5), **options).images[0]).astype(int)
    if modality.lora is None:
        with quiet():
            aligned = type(base).from_pretrained(saved)
        aligned.set_progress_bar_config(disable=True)
    else:
        aligned = base
        aligned.load_lora_weights(saved)
    plain = np.asarray(aligned("a disc", generator=torch.Generator().manual_seed(5), **options).images[0]).astype(int)
    assert np.abs(plain - drawn).max() <= 1  # grey levels: scale and rank are multiplied in another order
    assert not np.array_equal(before, drawn)
