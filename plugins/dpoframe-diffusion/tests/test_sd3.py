"""Stable Diffusion 3 and 3.5: their transformer is called as diffusers calls it, and an aligned one is an ordinary pipeline."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.frozen import Frozen
from dpoframe_diffusion.loading import Location
from dpoframe_diffusion.modality import DiffusionModality
from dpoframe_diffusion.quiet import quiet
from PIL import Image

from dpoframe import ConfigError, Example, Media, Request, generator

SIDE = FramingSection(resolution=16)


@pytest.fixture(params=["sd3", "sd35"])
def folder(request) -> Path:
    """Either version."""
    return request.getfixturevalue(request.param)


def pipeline(folder: Path, **parts: Any) -> Any:
    """The plain pipeline of diffusers."""
    from diffusers import StableDiffusion3Pipeline

    with quiet():
        made = StableDiffusion3Pipeline.from_pretrained(folder, **parts)
    made.set_progress_bar_config(disable=True)
    return made


def test_the_error_is_that_of_diffusers_training_script(folder, examples):
    """The score is minus half the error of diffusers' DreamBooth script for SD3, written out: sigma, input, timestep, target.

    There a timestep t of 1,000 stands for sigma = t / 1,000, the input is (1 - sigma) x + sigma e, the transformer hears t,
    and the target is e - x. Latents are (z - shift) * factor of the VAE.
    """
    pipe, modality = pipeline(folder), DiffusionModality(model=str(folder), framing=SIDE)
    batch = modality.collate(examples())
    with torch.no_grad():
        found = modality.score(modality.build(), batch).value
        (group,) = batch.groups
        for place, example in enumerate(examples()):
            clean, noise, sigma = clean_noise_sigma(pipe, modality, example)
            shown = (1.0 - sigma) * clean + sigma * noise
            states, _, pooled, _ = pipe.encode_prompt(example.prompt, None, None, do_classifier_free_guidance=False)
            predicted = pipe.transformer(
                hidden_states=shown,
                timestep=(sigma * 1000).reshape(1),
                encoder_hidden_states=states,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
            error = (predicted.double() - (noise - clean).double()).square().mean()
            torch.testing.assert_close(group.noisy[place][None], shown, rtol=1e-5, atol=1e-6)
            assert found[place].item() == pytest.approx(-error.item() / 2, rel=1e-5)


def clean_noise_sigma(pipe: Any, modality: DiffusionModality, example: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The scaled latent of a picture by the pipeline's own VAE, and what the example's seed draws for it."""
    from dpoframe_diffusion.draws import draw
    from dpoframe_diffusion.images import opened

    values = torch.from_numpy(np.array(opened(example.response))).permute(2, 0, 1)[None].float() / 127.5 - 1
    posterior = pipe.vae.encode(values).latent_dist
    drawn = draw(example.seed, posterior.mean.shape[1:], modality.location.process, modality.timesteps)
    latent = posterior.mean + posterior.std * drawn.posterior
    config = pipe.vae.config
    return (latent - config.shift_factor) * config.scaling_factor, drawn.noise[None], drawn.time


def test_noise_is_mixed_in_as_by_the_scheduler(folder, examples):
    """At the times of the scheduler's own table the noisy latents are its `scale_noise`."""
    pipe, process = pipeline(folder), Location(str(folder)).process
    clean, noise = (torch.randn(5, 4, 8, 8, generator=generator(seed)) for seed in (0, 1))
    places = torch.tensor([0, 10, 500, 900, 999])
    times, sigmas = pipe.scheduler.timesteps[places], pipe.scheduler.sigmas[places]
    wanted = pipe.scheduler.scale_noise(clean, times, noise)
    torch.testing.assert_close(process.noisy(clean, noise, sigmas), wanted)
    torch.testing.assert_close(sigmas * 1000, times)


def test_without_t5(sd3, tmp_path):
    """A pipeline whose third text encoder was left out gives zeros in its place, as the whole pipeline does."""
    folder = tmp_path / "small"
    shutil.copytree(sd3, folder)
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / part)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    with torch.no_grad():
        whole = pipeline(folder, text_encoder_3=None, tokenizer_3=None)
        states, _, pooled, _ = whole.encode_prompt("a disc", None, None, do_classifier_free_guidance=False)
    with Frozen(Location(str(folder))) as frozen:
        (found,) = frozen.prompts(["a disc"])
        assert frozen.text.transformer is None
    assert states[0, 16:].abs().max() == 0
    torch.testing.assert_close(found["prompt_embeds"], states[0])
    torch.testing.assert_close(found["pooled_prompt_embeds"], pooled[0])


def test_sides_must_suit_the_patches(sd3):
    """A resolution whose latent cannot be cut in squares of two by two is refused, with the nearest that can."""
    with pytest.raises(ConfigError, match=r"framing\.resolution: is 18, no multiple of 4\. Take 16\."):
        DiffusionModality(model=str(sd3), framing=FramingSection(resolution=18)).require()


def test_sides_must_suit_the_table_of_positions(sd3):
    """The largest picture that is let through is scored; one step beyond it, the transformer's limit is told beforehand."""
    most = DiffusionModality(model=str(sd3), framing=FramingSection(resolution=64))
    example = Example("a disc", Media("image", data=_plain((64, 64))), 1, "pair")
    with torch.no_grad():
        assert most.score(most.build(), most.collate([example])).value.isfinite().all()
    for framing in (FramingSection(resolution=68), FramingSection(resolution=64, buckets=True, multiple=4)):
        with pytest.raises(
            ConfigError, match=r"framing.resolution: gives pictures with sides of up to \d+ pixels.* takes 64 at most"
        ):
            DiffusionModality(model=str(sd3), framing=framing).require()


def _plain(size: tuple[int, int]) -> bytes:
    kept = io.BytesIO()
    Image.new("RGB", size, "red").save(kept, "PNG")
    return kept.getvalue()


@pytest.mark.parametrize(("name", "lora"), [("sd3", None), ("sd35", LoraSection(r=2))])
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
    import io

    from PIL import Image

    settings = {"steps": 2, "width": 16, "height": 16, "guidance_scale": 1.0}
    (sample,) = modality.generate(model, [Request("one", "a disc", 5, settings)])
    (reloaded,) = modality.generate(modality.load(saved), [Request("one", "a disc", 5, settings)])
    assert reloaded.response == sample.response
    drawn = np.asarray(Image.open(io.BytesIO(sample.response.data))).astype(int)  # type: ignore[union-attr]
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
