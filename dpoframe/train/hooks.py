"""The plugins' part in a run: the hooks that are called while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dpoframe.errors import PluginError
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
        found: dict[str, Tensor] = {}
        for plugin, made in self.relay.each(hook, **arguments):
            for name, value in _scalars(made, f"The hook {hook} of the plugin {plugin!r}").items():
                found[f"{plugin}{joint}{name}"] = value
        return found


def _scalars(made: Any, who: str) -> Mapping[str, Tensor]:
    """What a hook returned; PluginError where that is no mapping of names to 0-dim tensors."""
    if made is None:
        return {}
    if not isinstance(made, Mapping):
        raise PluginError(f"{who} must return a mapping of names to 0-dim tensors, but returned {made!r:.80}.")
    for name, value in made.items():
        if not isinstance(value, Tensor) or value.ndim:
            raise PluginError(f"{who} must return 0-dim tensors, but {name!r} is {value!r:.80}.")
    return made
