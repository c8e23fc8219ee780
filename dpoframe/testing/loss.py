"""The contract of a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dpoframe import Loss, PairScores
from dpoframe.testing.contract import PartContract, expect, skip

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")


class LossContract(PartContract):
    """What every loss must hold to. Set `loss` to the instance to check."""

    kind: ClassVar[str] = "loss"
    loss: ClassVar[Loss]

    def part(self) -> Loss:
        """The loss."""
        return self.loss

    def scores(self, pairs: int = 6, spread: float = 3.0) -> PairScores:
        """Plausible scores in float64, with the details that the loss requires and what it remembers after a first step."""
        from dpoframe.testing.tensors import pair_scores

        made = pair_scores(pairs, spread=spread, details=self.loss.requires, vectors=self.loss.vectors)
        state = {f"state/{name}": tensor for name, tensor in self.loss.update({}, made).items()}
        return made.replace(detail={**made.detail, **state})

    def test_gives_one_finite_number_a_pair(self) -> None:
        """The loss of B pairs has the shape (B,) and is finite.

        If this fails: do not take the mean over pairs, the trainer does; watch out for the log of 0.
        """
        value = self.loss(self.scores())
        expect(tuple(value.shape) == (6,), f"the loss of 6 pairs has the shape {tuple(value.shape)}")
        expect(bool(value.isfinite().all()), f"the loss is not finite: {value.tolist()}")

    def test_is_finite_far_out(self) -> None:
        """The loss and its gradient stay finite where log-ratios reach hundreds of nats.

        If this fails: take logsigmoid(x) in place of log(sigmoid(x)), and softplus in place of log(1 + exp(x)).
        """
        scores = self.scores(spread=200.0)
        gradients = self._gradients(scores)
        value = self.loss(scores)
        expect(bool(value.isfinite().all()), f"the loss is not finite: {value.tolist()}")
        for name, gradient in gradients.items():
            expect(bool(gradient.isfinite().all()), f"the gradient is not finite: {name} {gradient.tolist()}")

    def test_is_pure(self) -> None:
        """The same scores give the same loss, and are left as they were.

        If this fails: change no tensor in place, draw nothing at random, keep no state: `update` is there for that.
        """
        import torch

        scores, untouched = self.scores(), self.scores()
        first, state = self.loss(scores), torch.get_rng_state()
        expect(torch.equal(first, self.loss(scores)), "a second call gives another loss")
        expect(torch.equal(state, torch.get_rng_state()), "torch's global random state was advanced")
        changed = [name for name in SCORES if not torch.equal(getattr(scores, name), getattr(untouched, name))]
        expect(not changed, f"the loss changed its input {', '.join(changed)} in place")

    def test_reads_vectors_soundly(self) -> None:
        """What the loss reads as vectors it requires, and then it couples no pairs.

        If this fails: `vectors` names those of `requires` that are (B, D); no more than a micro-batch of them is ever at hand.
        """
        stray = sorted(self.loss.vectors - self.loss.requires)
        expect(not stray, f"{', '.join(stray)} is in vectors, but not in requires")
        expect(not (self.loss.vectors and self.loss.couples_pairs), "a loss that reads vectors cannot couple pairs")

    def test_pulls_the_pair_apart(self) -> None:
        """Where the policy prefers the wrong side by 10 nats, raising chosen against rejected lowers the summed loss.

        If this fails: a sign is wrong, or chosen and rejected are exchanged.
        """
        if self.loss.vectors:
            skip("scores alone do not say where a loss of vectors pulls; test that with a model")
        scores = self.scores(spread=0.01)
        wrong = scores.replace(policy_chosen=scores.policy_chosen - 5, policy_rejected=(scores.policy_rejected + 5).clamp(max=-0.5))
        gradients = self._gradients(wrong)
        slope = (gradients["policy_chosen"].sum() - gradients["policy_rejected"].sum()).item()
        expect(slope < 0, f"the derivative by (chosen - rejected) is {slope:.4g}, expected below 0")

    def test_pairs_stand_for_themselves(self) -> None:
        """A pair's loss does not depend on the other pairs, unless `couples_pairs` says so.

        If this fails: set `couples_pairs = True`, and the trainer computes the loss over the whole step.
        """
        import torch

        scores = self.scores()
        value = self.loss(scores)
        if self.loss.couples_pairs:
            order = torch.arange(5, -1, -1)
            mean = self.loss(_select(scores, order)).mean()
            expect(bool(torch.isclose(mean, value.mean())), "the mean loss changes with the order of the pairs")
            return
        alone = torch.cat([self.loss(_select(scores, torch.tensor([number]))) for number in range(6)])
        expect(bool(torch.allclose(alone, value)), f"pairs alone give {alone.tolist()}, together {value.tolist()}")

    def test_says_whether_it_reads_the_reference(self) -> None:
        """`uses_reference` is True exactly where the reference's scores change the loss.

        If this fails: set `uses_reference = False`, and no reference model is needed; or True, so that there is one.
        """
        import torch

        scores = self.scores()
        detail = {name: value * 0.5 if name.startswith("reference_") else value for name, value in scores.detail.items()}
        moved = scores.replace(
            reference_chosen=scores.reference_chosen - 1, reference_rejected=scores.reference_rejected + 2, detail=detail
        )
        reads = not torch.equal(self.loss(moved), self.loss(scores))
        found = "changes" if reads else "does not change"
        says = f"uses_reference is {self.loss.uses_reference}, but the loss {found} with the reference"
        expect(reads == self.loss.uses_reference, says)

    def test_remembers_tensors(self) -> None:
        """`update` returns tensors by name, without a graph, from what was remembered before.

        If this fails: detach what you return, and begin anew where the state is empty.
        """
        scores = self.scores()
        first = self.loss.update({}, scores)
        second = self.loss.update(first, scores)
        expect(sorted(first) == sorted(second), f"update names {sorted(first)} at first and {sorted(second)} later")
        bad = [name for name, value in second.items() if getattr(value, "requires_grad", True)]
        expect(not bad, f"{', '.join(bad)}: update must return tensors that carry no graph")

    def _gradients(self, scores: PairScores) -> dict[str, Tensor]:
        """Gradients of the summed loss by the policy's scores and details; 0 where it does not read one."""
        import torch

        policy = {name: value for name, value in scores.detail.items() if name.startswith("policy_") and value.is_floating_point()}
        leaves = {name: value.clone().requires_grad_() for name, value in {**_sides(scores), **policy}.items()}
        sides = {name: leaves[name] for name in _sides(scores)}
        value = self.loss(scores.replace(**sides, detail={**scores.detail, **{name: leaves[name] for name in policy}})).sum()
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        none = ((name, torch.zeros_like(leaf)) for name, leaf in leaves.items())
        return {name: zeros if made is None else made for (name, zeros), made in zip(none, found, strict=True)}


def _sides(scores: PairScores) -> dict[str, Tensor]:
    """The policy's scores by name."""
    return {"policy_chosen": scores.policy_chosen, "policy_rejected": scores.policy_rejected}


def _select(scores: PairScores, index: Tensor) -> PairScores:
    """The pairs at an index; what is known of the whole step stays."""
    names = (*SCORES, "chosen_length", "rejected_length")
    single = {name: value[index] for name, value in scores.detail.items() if value.ndim and not name.startswith("state/")}
    detail = {**scores.detail, **single}
    return scores.replace(**{name: getattr(scores, name)[index] for name in names}, detail=detail)
