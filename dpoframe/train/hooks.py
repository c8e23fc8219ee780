"""The plugins' part in a run: the hooks that are called while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from dpoframe.errors import PluginError
from dpoframe.modality import Modality
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

    def configure(self, config: Any) -> None:
        """Lets the plugins look at the recipe; what they raise to stop the run passes."""
        for _ in self._each("dpoframe_configure", config=config):
            pass

    def reference(self, modality: Modality, policy: nn.Module, config: Any) -> nn.Module | None:
        """The reference model of the first plugin that makes one; the core is asked last."""
        hook = "dpoframe_reference"
        for plugin, made in self._each(hook, modality=modality, policy=policy, config=config):
            if made is None:
                continue
            if not isinstance(made, nn.Module):
                raise PluginError(f"{_who(hook, plugin)} must return a torch.nn.Module or None, but returned {made!r:.80}.")
            return made
        return None

    def callbacks(self, config: Any) -> list[Callback]:
        """The callbacks of all plugins."""
        hook, found = "dpoframe_callbacks", list[Callback]()
        for plugin, made in self._each(hook, config=config):
            if not isinstance(made, Sequence) or not all(isinstance(one, Callback) for one in made):
                wanted = "a list of lightning.pytorch.callbacks.Callback"
                raise PluginError(f"{_who(hook, plugin)} must return {wanted}, but returned {made!r:.80}.")
            found += made
        return found

    def loss_terms(self, scores: PairScores, stage: str, step: int) -> dict[str, Tensor]:
        """Terms to add to a micro-batch's mean loss, by `<plugin>.<name>`."""
        return self._collect("dpoframe_loss_terms", ".", scores=scores, stage=stage, step=step)

    def pair_metrics(self, scores: PairScores, losses: Tensor, stage: str, step: int) -> dict[str, Tensor]:
        """Scalars to log, by `<plugin>/<name>`."""
        return self._collect("dpoframe_pair_metrics", "/", scores=scores, losses=losses, stage=stage, step=step)

    def _collect(self, hook: str, joint: str, **arguments: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for plugin, made in self._each(hook, **arguments):
            for name, value in _scalars(made, _who(hook, plugin)).items():
                found[f"{plugin}{joint}{name}"] = value
        return found

    def _each(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
        if self.relay is not None and getattr(self.relay, hook).get_hookimpls():
            yield from self.relay.each(hook, **arguments)


def _who(hook: str, plugin: str) -> str:
    return f"The hook {hook} of the plugin {plugin!r}"


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
