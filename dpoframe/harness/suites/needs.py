"""What a suite needs from the machine, and whether it can be had here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from dpoframe.config.secrets import masked
from dpoframe.evaluator import Available, Evaluator, Refused
from dpoframe.harness.phases.limits import OverdueError, asking
from dpoframe.harness.suites.suite import Suite

SECONDS = 120.0
"""How long a probe may take. It is cheap by contract; a sandbox that is attacked first takes some seconds."""


@dataclass(frozen=True)
class Refusal:
    """One thing that keeps a suite from running here: who says so, why, and what mends it."""

    who: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.who} cannot run here: {self.reason}. {self.fix}".replace("..", ".").rstrip()


def refusal_of(evaluator: Evaluator) -> Refusal | None:
    """Why an evaluator cannot run here; None where it can."""
    state = _asked(evaluator.probe)
    who = f"The evaluator {evaluator.spec.id!r}"
    return Refusal(who, state.reason.rstrip("."), state.fix) if isinstance(state, Refused) else None


def refusals(suite: Suite) -> list[Refusal]:
    """Asks every evaluator and the backend whether they can run; cheap, no weights are loaded. One that raises cannot."""
    asked = [(f"The evaluator {one.spec.id!r}", _asked(one.probe)) for one in suite.evaluators]
    asked.append((f"The backend {suite.backend.kind!r}", _asked(suite.backend.probe)))
    asked.append((f"The suite {suite.name!r}", _asked(suite.probe)))
    return [Refusal(who, state.reason.rstrip("."), state.fix) for who, state in asked if isinstance(state, Refused)]


def _asked(probe: Callable[[], Available | Refused]) -> Available | Refused:
    try:
        with asking(lambda _: probe(), SECONDS) as ask:
            state: Available | Refused = ask(None)()
            return state
    except OverdueError:
        return Refused(f"it did not say in {SECONDS:g} s whether it can", "Mend it, or leave it out.")
    except (Exception, SystemExit) as error:  # a plugin's code raises whatever it likes, and may end the program with code 0
        said = " ".join(str(error).split())[:500]
        return Refused(f"its probe raised {type(error).__name__}{': ' if said else ''}{said}", "Mend it, or leave it out.")


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
    for section in _sections(evaluator):
        yield from (f"{spec.id}: {what}" for what in _of_section(section))


def _sections(value: Any) -> Iterator[Mapping[str, Any]]:
    """The fields of an evaluator, and the mappings and dataclasses in them, such as a judge."""
    if is_dataclass(value):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _sections(inner)


def _of_section(section: Mapping[str, Any]) -> Iterator[str]:
    """An address, the variable of a key, and a local model that an evaluator's fields, or a mapping in them, name."""
    if isinstance(url := section.get("url"), str) and url:
        yield f"the endpoint {masked(url)}"
    elif isinstance(model := section.get("model"), str) and model:
        yield f"the model {model}"
    for name in ("key_env", "api_key_env"):
        if isinstance(value := section.get(name), str) and value:
            yield f"a key in ${value}"
