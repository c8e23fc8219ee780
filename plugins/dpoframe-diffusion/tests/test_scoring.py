"""Scores, losses, margins and gradients are what float64 arithmetic, written out here, gives."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.batch import Noised, gather
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.modality import DiffusionModality
from torch.nn.functional import logsigmoid

from dpoframe import DataError, Example, Media, PairScores, generator, losses, seed_of

SMALL = FramingSection(resolution=16)
BETA = 5000.0


def _modality(folder, **fields: Any) -> DiffusionModality:
    return DiffusionModality(model=str(folder), **{"framing": SMALL, **fields})


def _moved(model: Any, seed: int = 1) -> Any:
    """The model with each weight a little off, as after training."""
    drawn = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=drawn, dtype=torch.float64).to(parameter) * 0.02)
    return model


def _written_out(folder, unet: Any, example: Example, vae: Any) -> torch.Tensor:
    """The mean squared error of one example in float64, by diffusers' own parts and nothing of the plugin's."""
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from dpoframe_diffusion.framing import frames, pixels
    from dpoframe_diffusion.images import opened

    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    pipe = StableDiffusionPipeline.from_pretrained(folder, unet=None, safety_checker=None)
    seen = pixels(opened(example.response), frames([example], SMALL)[0])[None]
    with torch.no_grad():
        posterior = vae.encode(seen).latent_dist
        states = pipe.encode_prompt(example.prompt, "cpu", 1, False)[0].double()

    def normal(what: str) -> torch.Tensor:
        return torch.randn(posterior.mean.shape[1:], generator=generator(seed_of(example.seed, what)))[None]

    clean = (posterior.mean + posterior.std * normal("posterior")) * vae.config.scaling_factor
    share = torch.rand((), generator=generator(seed_of(example.seed, "time")), dtype=torch.float64)
    time = torch.tensor([int(share * scheduler.config.num_train_timesteps)])
    noise = normal("noise")
    shown = scheduler.add_noise(clean, noise, time).double()
    epsilon = scheduler.config.prediction_type == "epsilon"
    target = (noise if epsilon else scheduler.get_velocity(clean, noise, time)).double()
    return (unet(shown, time, states).sample - target).square().mean()


@pytest.mark.parametrize("family", ["sd", "sd_v"])
def test_loss_margins_and_gradients_are_those_of_the_paper(family, request, examples):
    """Diffusion-DPO's equation in float64, from diffusers' parts alone, gives the same scores, loss, margins and gradients."""
    from diffusers import AutoencoderKL

    folder, asked = request.getfixturevalue(family), examples()
    modality = _modality(folder)
    policy, reference = _moved(modality.build().double()), modality.build().double()
    batch = modality.collate(asked)
    scores = PairScores.from_scores(modality.score(policy, batch), modality.score(reference, batch))
    loss = losses.create("sigmoid", beta=BETA)(scores)
    loss.mean().backward()
    found = {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}

    policy.zero_grad()
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    trained = torch.stack([_written_out(folder, policy, example, vae) for example in asked])
    fixed = torch.stack([_written_out(folder, reference, example, vae) for example in asked]).detach()
    drop = fixed - trained
    margin = drop[:3] - drop[3:]
    wanted = -logsigmoid(BETA / 2 * margin)
    wanted.mean().backward()

    tight = {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(torch.cat([scores.policy_chosen, scores.policy_rejected]), -trained / 2, **tight)
    torch.testing.assert_close(scores.chosen_logratio - scores.rejected_logratio, margin / 2, **tight)
    torch.testing.assert_close(loss, wanted, rtol=1e-3, atol=1e-5)
    assert margin.abs().min() > 1e-5, "the case says nothing where policy and reference agree"
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_swapped_sides_negate_the_margin(sd, examples):
    """With winner and loser exchanged the margin is the same with the other sign, to the bit."""
    modality, asked = _modality(sd), examples()
    model = modality.build()

    def margin(given: list[Example]) -> torch.Tensor:
        with torch.no_grad():
            value = modality.score(model, modality.collate(given)).value
        return value[:3] - value[3:]

    torch.testing.assert_close(margin(asked[3:] + asked[:3]), -margin(asked), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["adapter", "copy"])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_first_loss_is_ln_2(kind, family, request, examples):
    """Before the first step every margin is exactly 0, and the loss exactly ln 2, with adapters and with a copy."""
    import copy

    modality = _modality(request.getfixturevalue(family), lora=LoraSection(r=4) if kind == "adapter" else None)
    policy, batch = modality.build(), modality.collate(examples())
    ours = modality.score(policy, batch)
    if kind == "adapter":
        with torch.no_grad(), modality.without_adapter(policy):
            theirs = modality.score(policy, batch)
    else:
        with torch.no_grad():
            theirs = modality.score(copy.deepcopy(policy).eval(), batch)
    scores = PairScores.from_scores(ours, theirs)
    assert scores.chosen_logratio.tolist() == scores.rejected_logratio.tolist() == [0.0] * 3
    assert losses.create("sigmoid", beta=BETA)(scores).tolist() == pytest.approx([math.log(2)] * 3, abs=1e-15)


def test_trained_adapters_are_told_from_the_base(sd, examples):
    """Adapters that have moved change the scores; switched off they do not, and afterwards they are on and trainable again."""
    modality = _modality(sd, lora=LoraSection(r=4))
    model, batch = modality.build(), modality.collate(examples())
    with torch.no_grad():
        before = modality.score(model, batch).value
        trained = [name for name, parameter in _moved(model).named_parameters() if parameter.requires_grad]
        moved = modality.score(model, batch).value
        with modality.without_adapter(model):
            without = modality.score(model, batch).value
        again = modality.score(model, batch).value
    assert without.tolist() == before.tolist()
    assert again.tolist() == moved.tolist() != before.tolist()
    assert trained == [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_scores_do_not_hang_on_neighbours(family, request, examples):
    """The same examples in batches of 1, 2 and 6, and in another order, score the same."""
    modality, asked = _modality(request.getfixturevalue(family)), examples()
    model = modality.build()

    def scores(given: list[Example]) -> list[float]:
        with torch.no_grad():
            return modality.score(model, modality.collate(given)).value.tolist()

    whole = scores(asked)
    for size in (1, 2):
        parts = [scores(asked[start : start + size]) for start in range(0, len(asked), size)]
        assert [value for part in parts for value in part] == pytest.approx(whole, rel=1e-5)
    assert scores(asked[::-1]) == pytest.approx(whole[::-1], rel=1e-5)


def test_a_pair_shares_noise_and_time(sd, pairs, examples):
    """The two of a pair are mixed with the same noise at the same time; another pair with other noise."""
    modality, asked = _modality(sd), examples(pairs(2))
    (group,) = modality.collate(asked).groups
    noise = group.target  # epsilon prediction
    assert torch.equal(noise[:2], noise[2:])
    assert torch.equal(group.time[:2], group.time[2:])
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(group.noisy[0], group.noisy[2]), "the two pictures differ"


def test_pictures_of_many_shapes_score_as_alone(sdxl, picture):
    """A batch of several buckets is scored by groups, each example as alone, in the order it came."""
    modality = _modality(sdxl, framing=FramingSection(resolution=16, buckets=True, multiple=4))
    shapes = [(16, 16), (12, 24), (16, 16), (24, 12), (12, 24)]
    made = [Example("a disc", picture(number, True, shape), number, str(number)) for number, shape in enumerate(shapes)]
    batch, model = modality.collate(made), modality.build()
    assert len(batch.groups) == 3
    with torch.no_grad():
        alone = [modality.score(model, modality.collate([example])).value.item() for example in made]
        assert modality.score(model, batch).value.tolist() == pytest.approx(alone, rel=1e-5)


def test_pairs_of_unlike_pictures_are_scored(sd, picture):
    """The two of a pair may differ in size, down to a single pixel: they are brought to one size, and share the noise."""
    modality = _modality(sd)
    made = [Example("a disc", picture(number, True, shape), 1, "one") for number, shape in enumerate([(1, 1), (40, 24)])]
    batch = modality.collate(made)
    (group,) = batch.groups
    assert torch.equal(group.target[0], group.target[1])
    with torch.no_grad():
        assert modality.score(modality.build(), batch).value.isfinite().all()


def test_each_prompt_is_held_once(sd, examples, pairs):
    """A batch holds the encoding of each different prompt once, however many examples have it."""
    batch = _modality(sd).collate(examples(pairs(6)))
    assert {name: len(encoded) for name, encoded in batch.prompts.items()} == {"prompt_embeds": 3}
    assert batch.groups[0].prompt.tolist() == [0, 1, 2] * 4


def test_captions_reach_the_denoiser(sd, picture):
    """Another caption gives the same picture another score."""
    modality = _modality(sd)
    two = [Example(caption, picture(0, True), 5, "one") for caption in ("a disc", "xyz")]
    with torch.no_grad():
        first, second = modality.score(modality.build(), modality.collate(two)).value.tolist()
    assert first != second


def test_sizes_and_pooled_prompts_reach_sdxl(sdxl, picture, monkeypatch):
    """SDXL's UNet is given original size, crop and target size of each picture, and the second encoder's pooled embedding."""
    from diffusers import StableDiffusionXLPipeline

    modality = _modality(sdxl)
    model, seen = modality.build(), {}
    forward = model.forward

    def watched(*given: Any, **named: Any) -> Any:
        seen.update(named["added_cond_kwargs"], states=named["encoder_hidden_states"])
        return forward(*given, **named)

    monkeypatch.setattr(model, "forward", watched)
    wide = Example("a disc", picture(0, True, (20, 40)), 5, "one")  # scaled to 32 x 16, and cropped in the middle
    with torch.no_grad():
        modality.score(model, modality.collate([wide]))
        pipe = StableDiffusionXLPipeline.from_pretrained(sdxl)
        states, _, pooled, _ = pipe.encode_prompt("a disc", do_classifier_free_guidance=False)
    assert seen["time_ids"].tolist() == [[20, 40, 0, 8, 16, 16]]
    torch.testing.assert_close(seen["text_embeds"], pooled)
    torch.testing.assert_close(seen["states"], states)


def test_sizes_change_sdxl_scores(sdxl, examples):
    """The same latents with another original size score otherwise: the UNet hears of it."""
    modality = _modality(sdxl)
    model, batch = modality.build(), modality.collate(examples()[:1])
    with torch.no_grad():
        before = modality.score(model, batch).value
        batch.groups[0].sizes[:, :2] = 999
        assert modality.score(model, batch).value != before


def test_a_mask_weighs_the_error(sd, examples):
    """With weights the score is the weighted mean, written out; weights that are all 1 change nothing."""
    modality = _modality(sd).with_details(frozenset({"residual"}))
    model, batch = modality.build(), modality.collate(examples()[:2])
    (group,) = batch.groups
    with torch.no_grad():
        plain = modality.score(model, batch)
        error = plain.detail["residual"].view_as(group.target)
        weight = torch.rand(2, 1, 8, 8, generator=generator(3))
        weight /= weight.mean((1, 2, 3), keepdim=True)
        group.weight = weight
        wanted = -(weight.double() * error.square()).sum((1, 2, 3)) / (4 * weight.double().sum((1, 2, 3))) / 2
        torch.testing.assert_close(modality.score(model, batch).value, wanted, rtol=1e-6, atol=0)
        group.weight = torch.ones(2, 1, 8, 8)
        assert modality.score(model, batch).value.tolist() == plain.value.tolist()


def test_a_mask_on_the_response_is_read(sd, picture):
    """A response with a mask that is white on the left half counts there alone, twice; one without beside it as ever."""
    import numpy as np

    half = np.zeros((16, 16, 3))
    half[:, :8] = 255
    plain = picture(0, True)
    masked = dataclasses.replace(plain, mask=_png(half))
    modality = _modality(sd)
    two = [Example("a disc", response, 5, "one") for response in (masked, plain)]
    (group,) = modality.collate(two).groups
    assert group.weight is not None
    assert group.weight[0, 0, :, :4].eq(2).all()
    assert group.weight[0, 0, :, 4:].eq(0).all()
    assert group.weight[1].eq(1).all()
    with torch.no_grad():
        first, second = modality.score(modality.build(), modality.collate(two)).value.tolist()
        (alone,) = modality.score(modality.build(), modality.collate(two[1:])).value.tolist()
    assert first != second
    assert second == pytest.approx(alone, rel=1e-6)


def test_a_mask_that_cannot_be_used_is_told_before_training(sd, picture, tmp_path):
    """`prepare` and `collate` name pair and file of a mask that is black where the model looks; `measure` knows its shape."""
    import numpy as np

    file = tmp_path / "black.png"
    file.write_bytes(_png(np.zeros((16, 16, 3))).data or b"")
    modality = _modality(sd)
    black = Example("a disc", dataclasses.replace(picture(0, True), mask=Media("image", path=file)), 5, "pair7")
    for do in (modality.prepare, modality.collate):
        with pytest.raises(DataError, match=r"pair7 \(.*black\.png\).*black wherever"):
            do([black])
    other = dataclasses.replace(black, response=dataclasses.replace(picture(0, True), mask=_png(np.ones((16, 8, 3)))))
    with pytest.raises(DataError, match="8 x 16 pixels, its picture 16 x 16"):
        modality.measure(other)


def test_residuals_explain_the_score(sd, examples):
    """The detail `residual` is prediction minus target: the score is minus half the mean of its squares, weights included."""
    modality = _modality(sd).with_details(frozenset({"residual"}))
    model, batch = modality.build(), modality.collate(examples())
    batch.groups[0].weight = torch.rand(6, 1, 8, 8, generator=generator(3))
    scores = modality.score(model, batch)
    assert scores.detail["residual"].shape == (6, 4 * 8 * 8)
    torch.testing.assert_close(scores.value, -scores.detail["residual"].square().mean(1) / 2)
    assert scores.detail["residual"].requires_grad


def test_residuals_of_many_sizes_are_refused(sd, picture):
    """Residuals of latents of different sizes cannot stand in one tensor; the message says what to set."""
    framing = FramingSection(resolution=16, buckets=True, multiple=4)
    modality = _modality(sd, framing=framing).with_details(frozenset({"residual"}))
    made = [Example("a disc", picture(1, True, shape), 1, str(shape)) for shape in ((16, 16), (12, 24))]
    with pytest.raises(DataError, match=r"framing\.buckets: false"):
        modality.score(modality.build(), modality.collate(made))


def test_half_precision_weights_are_scored(sd, examples):
    """With bfloat16 weights and adapters the score comes out in float64, near that of float32 weights."""
    near, exact = _modality(sd, dtype="bfloat16", lora=LoraSection(r=2)), _modality(sd)
    model = near.build()
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    with torch.no_grad():
        found = near.score(model, near.collate(examples())).value
        wanted = exact.score(exact.build(), exact.collate(examples())).value
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0)


def test_checkpointed_activations_change_nothing(sd, examples):
    """With gradient_checkpointing scores and gradients are the same."""
    gradients = []
    for again in (False, True):
        modality = _modality(sd, gradient_checkpointing=again)
        model = modality.build()
        modality.score(model, modality.collate(examples())).value.sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_groups_keep_the_order_within_a_size():
    """Examples are grouped by the size of their latents, and each group says where its members belong."""
    sizes = [(4, 4), (2, 8), (4, 4), (2, 8), (2, 8)]
    made = [
        Noised(f"p{number % 2}", torch.full((1, *size), number), torch.zeros(1, *size), torch.tensor(number), (0,) * 6)
        for number, size in enumerate(sizes)
    ]
    batch = gather(made, {"p0": {"states": torch.zeros(3)}, "p1": {"states": torch.ones(3)}})
    assert [group.place.tolist() for group in batch.groups] == [[0, 2], [1, 3, 4]]
    for group in batch.groups:
        assert group.noisy[:, 0, 0, 0].tolist() == group.time.tolist() == group.place.tolist()
        assert batch.prompts["states"][group.prompt][:, 0].tolist() == [place % 2 for place in group.place.tolist()]


def _png(colours: Any) -> Any:
    import io

    import numpy as np
    from PIL import Image

    from dpoframe import Media

    kept = io.BytesIO()
    Image.fromarray(np.asarray(colours, dtype=np.uint8)).save(kept, "PNG")
    return Media("image", data=kept.getvalue())
