"""The contract of a modality."""

from __future__ import annotations

import json
import pickle
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

from dpoframe import ConfigError, Example, Modality, PreferencePair, Request, Sample, Scores
from dpoframe.testing.contract import PartContract, expect, skip

if TYPE_CHECKING:
    from torch import Tensor, nn

TEXT_PAIRS = (
    PreferencePair("What is the capital of France?", "Paris.", "I do not know, ask someone else.", "capital"),
    PreferencePair("Name a colour.", "Blue is a colour.", "Seven", "colour"),
    PreferencePair("Say hello in one word.", "Hello", "Good morning to all of you, ladies and gentlemen!", "hello"),
)


class ModalityContract(PartContract):
    """What every modality must hold to. Set `modality`, and `pairs` where the model does not take text.

    Class attributes:
        modality: the instance to check; small, so that its model builds in seconds.
        pairs: at least two pairs with prompts and responses the model takes.
        settings: generation settings for the checks of `generate`.
        tolerance: largest difference, relative to 1 + |score|, between scores that must be equal.
    """

    kind: ClassVar[str] = "modality"
    modality: ClassVar[Modality]
    pairs: ClassVar[Sequence[PreferencePair]] = TEXT_PAIRS
    settings: ClassVar[Mapping[str, Any]] = {}
    tolerance: ClassVar[float] = 1e-5

    def part(self) -> Modality:
        """The modality."""
        return self.modality

    def model(self) -> nn.Module:
        """The model, built once and in evaluation mode."""
        return self.once("model", self.modality.build).eval()

    def examples(self) -> list[Example]:
        """All chosen, then all rejected, as the trainer sends them."""
        numbered = list(enumerate(self.pairs))
        chosen = [Example(pair.prompt, pair.chosen, 100 + number, pair.id) for number, pair in numbered]
        return chosen + [Example(pair.prompt, pair.rejected, 100 + number, pair.id) for number, pair in numbered]

    def scores(self, examples: Sequence[Example], modality: Modality | None = None, model: nn.Module | None = None) -> Scores:
        """Scores of examples, without gradients."""
        import torch

        scorer = modality or self.modality
        with torch.no_grad():
            return scorer.score(model or self.model(), scorer.collate(examples))

    def expect_equal(self, got: Tensor, wanted: Tensor, message: str) -> None:
        """Fails with the largest difference where two score tensors are not equal."""
        difference = ((got - wanted).abs() / (1 + wanted.abs())).max().item()
        expect(difference <= self.tolerance, f"{message}; the largest relative difference is {difference:.3g}")

    def test_scores_one_finite_number_an_example(self) -> None:
        """`score` gives N examples N finite numbers, with a positive length each, and details of shape (N,).

        If this fails: sum over the response, not over the batch; return lengths of at least 1; mask padding.
        """
        scores, count = self.scores(self.examples()), len(self.pairs) * 2
        for name, tensor in {"value": scores.value, "length": scores.length, **scores.detail}.items():
            expect(tuple(tensor.shape) == (count,), f"{name} has the shape {tuple(tensor.shape)}, expected ({count},)")
            expect(bool(tensor.isfinite().all()), f"{name} holds values that are not finite: {tensor.tolist()}")
        expect(scores.value.is_floating_point(), f"value has the type {scores.value.dtype}, expected a floating type")
        expect(bool((scores.length > 0).all()), f"length must be positive: {scores.length.tolist()}")

    def test_order_does_not_matter(self) -> None:
        """Shuffled examples give the same scores, shuffled.

        If this fails: scores must come back in the order of the examples, also where `collate` sorts or packs.
        """
        import torch

        examples = self.examples()
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(3))
        shuffled = self.scores([examples[int(number)] for number in order])
        self.expect_equal(shuffled.value, self.scores(examples).value[order], "scores change with the order of the examples")

    def test_batch_size_does_not_matter(self) -> None:
        """An example alone scores as it does among others; where scores for training are weighed, a pair alone.

        If this fails: padding leaks into the sum or the attention, or something is normalised over the batch. Where the other
        response of the pair decides a score, `for_evaluation` must leave that out.
        """
        import torch

        examples, plain = self.examples(), self.modality.for_evaluation()
        alone = torch.cat([self.scores([example], plain).value for example in examples])
        self.expect_equal(alone, self.scores(examples, plain).value, "scores change with the size of the batch")
        if plain is not self.modality:
            pairs = [self.scores(pair).value for pair in zip(*self._sides(), strict=True)]
            whole = self.scores(examples).value.view(2, -1).T
            self.expect_equal(torch.stack(pairs), whole, "scores change with the other pairs of the batch")

    def test_same_seed_same_score(self) -> None:
        """Scores depend on `Example.seed` alone, never on the global random state.

        If this fails: draw noise in `collate` from `dpoframe.generator(example.seed)`.
        """
        import torch

        found = []
        for seed in (1, 2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                found.append(self.scores(self.examples()).value)
        self.expect_equal(found[0], found[1], "scores change with torch's global seed")

    def test_dependence_on_the_seed_is_said(self) -> None:
        """The class says `stochastic = True` where scores change with `Example.seed`.

        If this fails: write `stochastic: ClassVar[bool] = True`; without it one cached reference score serves all epochs' noise.
        """
        if self.modality.stochastic:
            skip("the class says it")
        others = [replace(example, seed=example.seed + 1) for example in self.examples()]
        self.expect_equal(self.scores(others).value, self.scores(self.examples()).value, "scores change with `Example.seed`")

    def test_identical_responses_score_alike(self) -> None:
        """The two examples of a pair with identical responses and the same seed have equal scores.

        If this fails: draw all randomness from `Example.seed`, which the two share, not from the place in the batch.
        """
        pairs = self.examples()[: len(self.pairs)]
        value = self.scores(pairs + pairs).value
        self.expect_equal(value[: len(pairs)], value[len(pairs) :], "identical examples of one batch score differently")

    def test_score_is_pure(self) -> None:
        """`collate` and `score` change no parameter, buffer, mode or random state.

        If this fails: do not call train() or eval(), keep no counters in buffers, draw from generators of your own.
        """
        import torch

        model = self.model()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        states = torch.get_rng_state(), random.getstate()
        with torch.no_grad():
            self.modality.score(model, self.modality.collate(self.examples()))
        changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
        expect(not changed, f"score changed {', '.join(changed)}")
        expect(not any(module.training for module in model.modules()), "score switched the model into training mode")
        expect(torch.equal(states[0], torch.get_rng_state()), "torch's global random state was advanced")
        expect(states[1] == random.getstate(), "the random state of Python's `random` was advanced")

    def test_gradients_reach_what_is_trainable(self) -> None:
        """Every trainable parameter takes part in the score, and no frozen one gets a gradient.

        If this fails: call requires_grad_(False) in `build` on what is not to be trained; do not detach the score.
        """
        import torch

        model = self.model()
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(self.modality.score(model, self.modality.collate(self.examples())).value.sum())
        trained = {name: tensor.grad for name, tensor in model.named_parameters() if tensor.requires_grad}
        unused = [name for name, gradient in trained.items() if gradient is None]
        frozen = [name for name, tensor in model.named_parameters() if not tensor.requires_grad and tensor.grad is not None]
        moved = any(gradient is not None and bool(gradient.any()) for gradient in trained.values())
        model.zero_grad(set_to_none=True)
        expect(not unused, f"trainable parameters without a gradient: {', '.join(unused)}")
        expect(not frozen, f"frozen parameters with a gradient: {', '.join(frozen)}")
        expect(moved, "no parameter gets a gradient that is not zero")

    def test_score_with_hint_agrees(self) -> None:
        """`score_with_hint` gives the scores and the gradients of `score`.

        If this fails: the hint's gradient is by the examples' values, and what arrives in the backward is a multiple of it.
        """
        if type(self.modality).score_with_hint is Modality.score_with_hint:
            skip("score_with_hint is not overridden")
        plain, hinted = self._step(hinted=False), self._step(hinted=True)
        self.expect_equal(hinted[0], plain[0], "score_with_hint scores otherwise than score")
        for name, gradient in plain[1].items():
            self.expect_equal(hinted[1][name], gradient, f"the gradient of {name} differs")

    def test_blocks_are_called_equally_often(self) -> None:
        """Whatever the batch, `score` calls each of the `blocks` as a module, and as often as with any other batch.

        If this fails: ranks of a run that splits the model would wait for each other for ever. Leave that block out of `blocks`.
        """
        model = self.model()
        blocks = list(self.modality.blocks(model))
        if not blocks:
            skip("the modality names no blocks")
        calls = [0] * len(blocks)

        def counter(number: int) -> Any:
            def count(*_: Any) -> None:
                calls[number] += 1

            return count

        hooks = [block.register_forward_pre_hook(counter(number)) for number, block in enumerate(blocks)]
        try:
            examples = self.examples()
            self.scores(examples)  # what is tried out once, such as a kernel, is no part of a later call
            found = []
            for batch in (examples, examples[:1], examples[-1:]):
                calls[:] = [0] * len(blocks)
                self.scores(batch)
                found.append(list(calls))
        finally:
            for hook in hooks:
                hook.remove()
        for number, block in enumerate(blocks):
            times = [one[number] for one in found]
            told = f"block {number}, a {type(block).__name__}, was called {times} times with batches of several sizes"
            expect(min(times) > 0 and len(set(times)) == 1, told)

    def test_collate_needs_no_model(self) -> None:
        """`collate` and `measure` work without a model, on a modality that was just unpickled.

        If this fails: `collate` runs in data-loading workers: load tokenizers there, but never weights.
        """
        modality = pickle.loads(pickle.dumps(self.modality))
        with mock.patch.object(type(modality), "build", side_effect=AssertionError("collate or measure called build()")):
            modality.collate(self.examples())
            for example in self.examples():
                modality.measure(example)

    def test_prepare_changes_no_score(self) -> None:
        """`prepare` takes examples one by one and changes no score: before it and after it, here and in another process.

        If this fails: keep what can be made again from an example, under a name that holds all that decides it, and have
        `collate` make what is not kept; draw from generators of your own.
        """
        import torch

        if type(self.modality).prepare is Modality.prepare:
            skip("prepare is not implemented")
        before, states = self.scores(self.examples()).value, (torch.get_rng_state(), random.getstate())
        self.modality.prepare(example for pair in zip(*self._sides(), strict=True) for example in pair)
        expect(torch.equal(states[0], torch.get_rng_state()), "torch's global random state was advanced")
        expect(states[1] == random.getstate(), "the random state of Python's `random` was advanced")
        self.modality.prepare(iter(()))
        self.expect_equal(self.scores(self.examples()).value, before, "prepare changes scores")
        again = pickle.loads(pickle.dumps(self.modality))
        self.expect_equal(self.scores(self.examples(), again).value, before, "after prepare an unpickled modality scores otherwise")

    def test_batch_travels(self) -> None:
        """A batch pickles, and Lightning finds every tensor in it to move to another device.

        If this fails: make batches of tensors in dicts, lists, tuples or dataclasses, not of own classes.
        """
        from lightning.pytorch.utilities import move_data_to_device

        from dpoframe.testing.tensors import tensors_in

        batch = self.modality.collate(self.examples())
        pickle.loads(pickle.dumps(batch))
        left = [tuple(tensor.shape) for tensor in tensors_in(move_data_to_device(batch, "meta")) if tensor.device.type != "meta"]
        expect(not left, f"tensors of these shapes stay behind when the batch moves to another device: {left}")

    def test_save_and_load_keep_scores(self) -> None:
        """What `save` writes, `load` reads back in evaluation mode to a model with equal scores.

        If this fails: save every parameter and buffer that decides a score; end `load` with `return model.eval()`.
        """
        with tempfile.TemporaryDirectory() as name:
            self.modality.save(self.model(), Path(name))
            read = self.modality.load(Path(name))
        expect(not read.training, "load returned a model in training mode")
        examples = self.examples()
        self.expect_equal(self.scores(examples, model=read).value, self.scores(examples).value, "the loaded model scores otherwise")

    def test_measure_is_consistent(self) -> None:
        """`measure` repeats itself, knows one prompt by one digest, and tells apart what scores differently.

        If this fails: digest exactly what reaches the model after truncation: no seeds, no ids.
        """
        examples, count = self.examples(), len(self.pairs)
        sizes = [self.modality.measure(example) for example in examples]
        expect(sizes == [self.modality.measure(example) for example in examples], "measure gives other values at a second call")
        expect(all(size.prompt >= 0 and size.response >= 1 for size in sizes), f"sizes must be positive: {sizes}")
        same = all(one.prompt_digest == two.prompt_digest for one, two in zip(sizes[:count], sizes[count:], strict=True))
        expect(same, "the two examples of a pair have one prompt, but two prompt digests")
        scores = self.scores(examples).value
        for number in range(count):
            if sizes[number].digest == sizes[count + number].digest:
                self.expect_equal(scores[number], scores[count + number], "equal digests must mean equal scores")

    def test_details_can_be_switched_on(self) -> None:
        """`with_details` adds each detail in `provides` to the scores, changes no score, and refuses others.

        If this fails: return a copy (dataclasses.replace) whose `score` fills `Scores.detail`.
        """
        plain = self.scores(self.examples()).value
        for name in sorted(self.modality.provides):
            scores = self.scores(self.examples(), self.modality.with_details(frozenset({name})))
            expect(name in scores.detail, f"{name!r} is in provides, but not in the detail of the scores")
            shape = tuple(scores.detail[name].shape)
            told = f"detail {name!r} has the shape {shape}, expected ({len(plain)},) or ({len(plain)}, D)"
            expect(shape[:1] == plain.shape and len(shape) <= 2, told)
            self.expect_equal(scores.value, plain, f"switching on {name!r} changes the score")
        try:
            self.modality.with_details(frozenset({"no-such-detail"}))
        except ConfigError:
            return
        raise AssertionError("with_details must raise ConfigError for a detail that is not in provides")

    def test_fingerprint_is_plain(self) -> None:
        """`fingerprint` is made of JSON values and repeats itself after pickling.

        If this fails: put in digests and settings, not objects.
        """
        found = self.modality.fingerprint()
        expect(json.loads(json.dumps(found)) == found, f"the fingerprint does not survive JSON: {found}")
        again = pickle.loads(pickle.dumps(self.modality)).fingerprint()
        expect(again == found, f"the fingerprint changes after pickling: {again}")

    def test_generation_repeats_itself(self) -> None:
        """`generate` gives one sample a request, which depends on the request alone: not on its neighbours, not on global seeds.

        If this fails: draw from `dpoframe.generator(request.seed)`, one for each request; mask the padding of a batch.
        """
        if type(self.modality).generate is Modality.generate:
            skip("generate is not implemented")
        requests = [Request(pair.id, pair.prompt, 7 + number, self.settings) for number, pair in enumerate(self.pairs)]
        together = self._samples(requests)
        expect(sorted(together) == sorted(request.id for request in requests), f"samples came back for {sorted(together)}")
        for request in requests:
            alone = self._samples([request])[request.id].response
            expect(alone == together[request.id].response, f"request {request.id!r} alone gives {alone!r:.200}, among others not")

    def _sides(self) -> tuple[list[Example], list[Example]]:
        """The chosen examples and the rejected ones."""
        examples = self.examples()
        return examples[: len(self.pairs)], examples[len(self.pairs) :]

    def _samples(self, requests: Sequence[Request]) -> dict[str, Sample]:
        """Samples by the id of their request."""
        return {sample.id: sample for sample in self.modality.generate(self.model(), requests)}

    def _step(self, hinted: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores and gradients of one plain DPO step, with or without the hint."""
        import torch

        from dpoframe.testing.tensors import pair_hint, pair_loss

        model, batch = self.model(), self.modality.collate(self.examples())
        model.zero_grad(set_to_none=True)
        hint = pair_hint(len(self.pairs))
        scores = self.modality.score_with_hint(model, batch, hint) if hinted else self.modality.score(model, batch)
        torch.autograd.backward(pair_loss(scores.value))
        found = {name: tensor.grad.clone() for name, tensor in model.named_parameters() if tensor.grad is not None}
        model.zero_grad(set_to_none=True)
        return scores.value.detach(), found
