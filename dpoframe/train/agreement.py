"""How ranks give up an attempt at a step together, where one of them ran out of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

WELL, CUT, STUCK = 2, 1, 0
"""What a rank says: it came so far; it ran out of memory and takes smaller micro-batches; it ran out and cannot."""


class AbandonedError(Exception):
    """Another rank ran out of memory: this one's attempt is of no use.

    Args:
        stuck: Whether that rank cannot go on.
    """

    def __init__(self, stuck: bool) -> None:
        super().__init__("another rank ran out of memory")
        self.stuck = stuck


class Agreement:
    """Before ranks exchange anything in an attempt, each says whether it came so far.

    A rank that runs out of memory says so in place of it. As the others' next exchange is the same one, none is left waiting;
    all make the attempt again, and the rank cuts its micro-batches. Only inside an exchange nobody can be called back. The
    gradients' exchange overlaps with the backward of the last micro-batch, which so must not fail: where one of that size
    has not fitted before, the backward comes first, and an exchange of its own after it.

    Args:
        model: Whose gradients are exchanged.
        device: Where collectives find their tensors.
    """

    def __init__(self, model: DistributedDataParallel, device: torch.device) -> None:
        self.model, self.device = model, device
        self.exchanging = False
        self.fitted = {False: 0, True: 0}  # by whether the backward was the first of its step, when there are no gradients yet
        self.steps = 0

    @classmethod
    def of(cls, strategy: Any) -> Agreement | None:
        """That of a strategy's ranks; None for a single one, and where a forward is an exchange in itself."""
        model = getattr(strategy, "model", None)
        if strategy.world_size == 1 or not isinstance(model, DistributedDataParallel) or model.static_graph:
            return None
        return cls(model, strategy.root_device)

    def tell(self, state: int, known: bool = True) -> bool:
        """Tells the others and hears them: whether `known` holds on all ranks. What fitted on one is taken to fit on all.

        Raises:
            AbandonedError: this rank came so far, another did not.
        """
        told = torch.tensor([state, int(known), -self.fitted[False], -self.fitted[True]], device=self.device)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MIN)
        least, everywhere, *fitted = told.tolist()
        self.fitted = {False: -fitted[0], True: -fitted[1]}
        if state == WELL and least < WELL:
            raise AbandonedError(least == STUCK)
        return bool(everywhere)

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Context of an exchange between ranks that all came so far."""
        self.tell(WELL)
        with self._exchanging():
            yield

    def backward(self, backward: Callable[[], None], units: int, first: bool, last: bool) -> None:
        """A micro-batch's backward; after the step's last one gradients are the mean over ranks.

        Args:
            backward: Does it.
            units: The micro-batch's size.
            first: Whether it is the step's first.
            last: Whether it is the step's last.
        """
        if last and self.tell(WELL, known=units <= self.fitted[first]):
            with self._exchanging():
                backward()
            return
        with self.model.no_sync(), self._arrivals() as arrived:
            backward()
        self.fitted[first] = max(self.fitted[first], units)
        if last:
            with self.exchange():
                self._exchange_gradients(arrived)

    def after_step(self) -> None:
        """The step's scores are taken. What fitted in the first one need not later: the optimizer has no state before its end."""
        if self.steps == 0:
            self.fitted = {False: 0, True: 0}
        self.steps += 1

    @contextlib.contextmanager
    def _exchanging(self) -> Iterator[None]:
        self.exchanging = True
        yield
        self.exchanging = False  # not where it fails: the others are in it still

    @property
    def _trained(self) -> list[Tensor]:
        return [parameter for parameter in self.model.module.parameters() if parameter.requires_grad]

    @contextlib.contextmanager
    def _arrivals(self) -> Iterator[list[Tensor]]:
        """Context with the parameters in the order in which a backward in it comes to them."""
        arrived: list[Tensor] = []
        hooks = [parameter.register_post_accumulate_grad_hook(arrived.append) for parameter in self._trained]
        try:
            yield arrived
        finally:
            for hook in hooks:
                hook.remove()

    def _exchange_gradients(self, arrived: list[Tensor]) -> None:
        """The exchange alone, in the very buckets in which it goes along with a backward.

        It is a backward that adds minus zero to each gradient, which changes no bit of it. DDP lays out its buckets by the order
        of the first one that it sees, so this one keeps to the order of `arrived`.
        """
        known = {id(parameter): parameter for parameter in [*arrived, *reversed(self._trained)] if parameter.grad is not None}
        total = torch.zeros((), device=self.device, requires_grad=True)
        for parameter in reversed(known.values()):
            total = _Touch.apply(total, parameter)  # type: ignore[no-untyped-call]
        _prepare(self.model, total)
        total.backward()


class _Touch(torch.autograd.Function):
    """`before`, with minus zero as its derivative by every element of a parameter."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, parameter: Tensor) -> Tensor:
        ctx.zero, ctx.shape = parameter.new_full((), -0.0), parameter.shape
        return before.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], ctx.zero.expand(ctx.shape)


def _prepare(model: DistributedDataParallel, output: Tensor) -> None:
    from lightning.pytorch.overrides.distributed import prepare_for_backward

    prepare_for_backward(model, output)
