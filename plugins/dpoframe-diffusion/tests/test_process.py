"""The noising processes agree with diffusers' schedulers, and draws with the distributions they are named after."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from dpoframe_diffusion.draws import draw
from dpoframe_diffusion.process import Ddpm, Flow
from dpoframe_diffusion.timesteps import TimestepSection

from dpoframe import ConfigError, generator

SD = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _three(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean latents, noise and steps."""
    drawn = generator(seed)
    clean, noise = torch.randn(5, 4, 6, 8, generator=drawn), torch.randn(5, 4, 6, 8, generator=drawn)
    return clean, noise, torch.tensor([0, 1, 250, 777, 999])


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_noise_and_targets_are_those_of_diffusers(schedule, prediction):
    """What the denoiser is shown is the scheduler's add_noise, the target by kind the noise, get_velocity or the picture."""
    from diffusers import DDPMScheduler

    config = {**SD, "beta_schedule": schedule, "prediction_type": prediction}
    scheduler, process = DDPMScheduler(**config), Ddpm.from_scheduler(config)
    clean, noise, time = _three()
    wanted = {"epsilon": noise, "v_prediction": scheduler.get_velocity(clean, noise, time), "sample": clean}
    torch.testing.assert_close(process.noisy(clean, noise, time), scheduler.add_noise(clean, noise, time), rtol=0, atol=1e-6)
    torch.testing.assert_close(process.target(clean, noise, time), wanted[prediction], rtol=0, atol=1e-6)


def test_the_schedule_is_that_of_the_paper():
    """For a linear schedule a^2 is the product of 1 - beta, written out in float64."""
    process = Ddpm.from_scheduler({"num_train_timesteps": 10, "beta_start": 0.1, "beta_end": 0.2, "beta_schedule": "linear"})
    wanted = np.cumprod(1 - np.linspace(0.1, 0.2, 10))
    np.testing.assert_allclose(process.alphas_cumprod.double().numpy(), wanted, rtol=1e-6)
    assert process.prediction == "epsilon", "schedulers of the first Stable Diffusion name no prediction type"


def test_a_schedule_that_ends_in_pure_noise_does():
    """With rescale_betas_zero_snr the last step shows nothing of the picture (Lin et al. 2023)."""
    process = Ddpm.from_scheduler({**SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    clean, noise, _ = _three()
    last = torch.full((5,), 999)
    torch.testing.assert_close(process.noisy(clean, noise, last), noise)
    torch.testing.assert_close(process.target(clean, noise, last), -clean)


def test_flow_is_that_of_diffusers():
    """Noisy latents of a flow are the scheduler's scale_noise at the same time."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    clean, noise, _ = _three()
    time = scheduler.timesteps[[0, 10, 500, 900, 999]]
    shown = Flow().noisy(clean, noise, time / 1000)
    torch.testing.assert_close(shown, scheduler.scale_noise(clean, time, noise), rtol=0, atol=1e-6)


def test_the_flow_target_leads_to_the_picture():
    """From any time one straight step along the target arrives at the picture, and its opposite at the noise."""
    clean, noise, _ = _three()
    time = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    process, share = Flow(), torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).view(-1, 1, 1, 1)
    shown, target = process.noisy(clean, noise, time), process.target(clean, noise, time)
    torch.testing.assert_close(shown - share * target, clean)
    torch.testing.assert_close(shown + (1 - share) * target, noise)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_shift_of_times_is_the_schedulers(shift):
    """Places of the time line are shifted as the scheduler shifts its own."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    process = Flow.from_scheduler(dict(scheduler.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"})
    for index in (1, 300, 999):
        place = 1 - index / 1000
        found = process.draw(generator(0), TimestepSection(low=place, high=place + 1e-9))
        assert found.item() == pytest.approx(scheduler.sigmas[index].item(), abs=1e-5)


def test_a_shift_that_hangs_on_the_size_is_left_out():
    """Where the scheduler shifts by the picture's size when it draws, training draws without it."""
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "use_dynamic_shifting": True}
    assert Flow.from_scheduler(config) == Flow(1.0)


@pytest.mark.parametrize("prediction", ["flow_prediction", "original", ""])
def test_other_predictions_are_refused(prediction):
    """A kind of prediction that is not handled is named, with those that are."""
    with pytest.raises(ConfigError, match=rf"'{prediction}'.*epsilon, v_prediction, sample"):
        Ddpm.from_scheduler({**SD, "prediction_type": prediction})


@pytest.mark.parametrize("name", ["EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_schedulers_of_other_processes_are_refused(name):
    """A scheduler whose noise is mixed in otherwise is refused by name, though its model predicts epsilon."""
    with pytest.raises(ConfigError, match=f"scheduler is {name}"):
        Ddpm.from_scheduler({**SD, "_class_name": name, "prediction_type": "epsilon"})


@pytest.mark.parametrize(
    "wrong", [{"beta_schedule": "exp"}, {"num_train_timesteps": 0}, {"beta_start": "x"}, {"trained_betas": [0.1, 2.5]}]
)
def test_what_makes_no_schedule_is_told(wrong):
    """A schedule that diffusers has not, or that is none, is an error that shows it and names the file."""
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} .*scheduler_config\.json"):
        Ddpm.from_scheduler({**SD, **wrong})


@pytest.mark.parametrize("shift", [0, -1.0, "3", True, float("nan")])
def test_a_shift_that_is_none_is_told(shift):
    """So is a flow's shift that is no number above 0."""
    with pytest.raises(ConfigError, match=r"has shift .*above 0"):
        Flow.from_scheduler({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift})


def test_a_flow_needs_its_scheduler():
    """The scheduler of another process is refused, and named."""
    with pytest.raises(ConfigError, match="PNDMScheduler"):
        Flow.from_scheduler({"_class_name": "PNDMScheduler"})


@pytest.mark.parametrize("section", [TimestepSection(), TimestepSection(low=0.2, high=0.9)])
def test_uniform_places_are_uniform(section):
    """Places drawn evenly have the uniform distribution between low and high."""
    from scipy import stats

    found = [section.draw(generator(seed)) for seed in range(2000)]
    assert min(found) >= section.low
    assert max(found) < section.high
    assert stats.kstest(found, stats.uniform(section.low, section.high - section.low).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "section",
    [
        TimestepSection("logit_normal"),
        TimestepSection("logit_normal", mean=-0.6, std=0.5),
        TimestepSection("logit_normal", low=0.3, high=0.8, mean=1.0, std=2.0),
        # Far above and far below the mean, where the distribution function is 1 or 0 but for its last digits.
        TimestepSection("logit_normal", low=0.8, std=0.1),
        TimestepSection("logit_normal", high=0.2, std=0.1),
    ],
)
def test_logit_normal_places_follow_scipy(section):
    """Each place is the logistic function of scipy's truncated normal quantile at the number that was drawn."""
    from scipy import special, stats

    ends = [(special.logit(end) - section.mean) / section.std for end in (section.low, section.high)]
    quantile = stats.truncnorm(*ends, loc=section.mean, scale=section.std).ppf
    for seed in range(50):
        number = torch.rand((), generator=generator(seed), dtype=torch.float64).item()
        assert section.draw(generator(seed)) == pytest.approx(special.expit(quantile(number)), abs=1e-9)


def test_steps_stay_on_the_schedule():
    """Drawn steps are whole numbers from 0 to the last one; the ends of the line are reached, not passed."""
    process = Ddpm.from_scheduler({**SD, "num_train_timesteps": 4})
    found = {process.draw(generator(seed), TimestepSection()).item() for seed in range(200)}
    assert found == {0, 1, 2, 3}
    assert process.draw(generator(0), TimestepSection(low=0.75)).item() == 3
    assert process.draw(generator(0), TimestepSection()).dtype == torch.int64


def test_all_faults_of_the_section_are_told():
    """Every value that cannot be is named."""
    assert len(TimestepSection(low=0.5, high=0.5, mean=float("nan"), std=0.0).faults()) == 3
    assert not TimestepSection().faults()


def test_a_part_with_nothing_in_it_is_told():
    """Bounds so far from the mean that no number tells their places apart are refused, not drawn at one end."""
    for section in (
        TimestepSection("logit_normal", low=0.5, mean=-20.0, std=0.1),
        TimestepSection("logit_normal", high=0.1, std=0.05),
    ):
        assert "hold next to nothing" in section.faults()[0]
        assert not dataclasses.replace(section, distribution="uniform").faults()
    assert not TimestepSection("logit_normal", low=0.8, std=0.1).faults()


def test_draws_follow_from_the_seed_alone():
    """Equal seeds give equal draws whatever torch's state, other seeds others; noise is standard normal and drawn apart."""
    process, shape = Ddpm.from_scheduler(SD), torch.Size((4, 32, 32))
    torch.manual_seed(1)
    first = draw(7, shape, process, TimestepSection())
    torch.manual_seed(2)
    again, other = draw(7, shape, process, TimestepSection()), draw(8, shape, process, TimestepSection())
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first.noise, other.noise)
    assert not torch.equal(first.noise, first.posterior)
    assert abs(first.noise.mean().item()) < 0.06
    assert first.noise.std().item() == pytest.approx(1, abs=0.05)


def test_the_time_does_not_hang_on_the_size():
    """A latent of another size gets the same time from the same seed."""
    process = Ddpm.from_scheduler(SD)
    small, large = (draw(7, torch.Size((4, side, side)), process, TimestepSection()) for side in (4, 16))
    assert small.time == large.time


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Ddpm.from_scheduler, {"prediction_type": "v_prediction"}),
        (Ddpm.from_scheduler, {"beta_end": 0.02}),
        (Flow.from_scheduler, {"shift": 2.0}),
    ],
)
def test_fingerprints_know_processes_apart(one, other):
    """What changes noise or target changes the fingerprint; what an equal process is read from does not."""
    config = {**SD} if one == Ddpm.from_scheduler else {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    assert one(config).fingerprint() == one({**config, "timestep_spacing": "leading"}).fingerprint()
    assert one(config).fingerprint() != one({**config, **other}).fingerprint()


def test_draws_do_not_hang_on_the_default_type():
    """Some precisions set it while a model runs; an example has the same noise wherever it is drawn."""
    process = Ddpm.from_scheduler(SD)
    before = draw(7, torch.Size((4, 2, 2)), process, TimestepSection())
    kind = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        after = draw(7, torch.Size((4, 2, 2)), process, TimestepSection())
    finally:
        torch.set_default_dtype(kind)
    for mine, other in zip(before, after, strict=True):
        assert torch.equal(mine, other)
        assert mine.dtype == other.dtype
