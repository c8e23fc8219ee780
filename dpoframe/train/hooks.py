"""The plugins' part in a run: the hooks that are called while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dpoframe.plugins import Relay
from dpoframe.types import PairScores


@dataclass(frozen=True)
class RunHooks:
    """The hooks of the plugins that take part in the run; without a relay there are none."""

    relay: Relay | None = None

    @property
    def adds_terms(self) -> bool:
        """Whether any of them adds to the loss."""
        return self.relay is not None and bool(self.relay.dpoframe_loss_terms.get_hookimpls())

    def loss_terms(self, scores: PairScores, stage: str, step: int) -> dict[str, Tensor]:
        """Terms to add to a micro-batch's mean loss, by `<plugin>.<name>`."""
        return self._collect("dpoframe_loss_terms", ".", scores=scores, stage=stage, step=step)

    def pair_metrics(self, scores: PairScores, losses: Tensor, stage: str, step: int) -> dict[str, Tensor]:
        """Scalars to log, by `<plugin>/<name>`."""
        return self._collect("dpoframe_pair_metrics", "/", scores=scores, losses=losses, stage=stage, step=step)

    def _collect(self, hook: str, joint: str, **arguments: Any) -> dict[str, Tensor]:
        if self.relay is None or not getattr(self.relay, hook).get_hookimpls():
            return {}
        return {
            f"{plugin}{joint}{name}": value
            for plugin, made in self.relay.each(hook, **arguments)
            for name, value in (made or {}).items()
        }
