"""What a suite needs from the machine, and whether it can be had here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from dpoframe.config.secrets import masked
from dpoframe.evaluator import Refused
from dpoframe.harness.suite import Suite


@dataclass(frozen=True)
class Refusal:
    """One thing that keeps a suite from running here: who says so, why, and what mends it."""

    who: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.who} cannot run here: {self.reason}. {self.fix}".replace("..", ".").rstrip()


def refusals(suite: Suite) -> list[Refusal]:
    """Asks every evaluator and the backend whether they can run; cheap, no weights are loaded."""
    asked = [(f"The evaluator {one.spec.id!r}", one.probe()) for one in suite.evaluators]
    asked.append((f"The backend {suite.backend.kind!r}", suite.backend.probe()))
    asked.append((f"The suite {suite.name!r}", suite.probe()))
    return [Refusal(who, state.reason.rstrip("."), state.fix) for who, state in asked if isinstance(state, Refused)]


def needs(suite: Suite) -> list[str]:
    """What the suite needs besides the model, in words: a base or a rival, assets, endpoints, a backend."""
    found = [what for one in suite.evaluators for what in _of_evaluator(one)]
    if suite.backend.kind != "modality":
        where = getattr(suite.backend, "url", "")
        found.append(f"backend {suite.backend.kind}" + (f" at {masked(where)}" if where else ""))
    return list(dict.fromkeys([*found, *suite.requirements()]))


def _of_evaluator(evaluator: object) -> Iterator[str]:
    """Assets with their licence, and whatever address or key an evaluator's fields name."""
    spec = evaluator.spec  # type: ignore[attr-defined]
    for asset in spec.assets:
        yield f"{asset.name} ({asset.licence})" if asset.licence else asset.name
    if spec.needs == "rival":
        yield f"{spec.id}: another answer to each prompt, the base's or a `reference`"
    for one in fields(evaluator):  # type: ignore[arg-type]
        value = getattr(evaluator, one.name)
        if one.name in ("url", "endpoint", "base_url") and isinstance(value, str) and value:
            yield f"{spec.id}: the endpoint {masked(value)}"
        if one.name in ("key_env", "api_key_env") and isinstance(value, str) and value:
            yield f"{spec.id}: a key in ${value}"
