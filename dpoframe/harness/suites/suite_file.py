"""From a suite's YAML to a `Suite`: keys read strictly, everything that is wrong said at once, with file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le
from pydantic import StringConstraints

from dpoframe.config import paths
from dpoframe.config.assembly import Assembly
from dpoframe.config.document import Document, KeyPath, read_file
from dpoframe.config.overrides import apply
from dpoframe.config.secrets import is_secret
from dpoframe.errors import ConfigError, Fault, suggestion
from dpoframe.evaluator import Evaluator
from dpoframe.harness.backends import KINDS, Backend, Native
from dpoframe.harness.lm_eval.keys import LmEvalKeys
from dpoframe.harness.suites.framing import Form, Framing
from dpoframe.harness.suites.prompt_rows import read_examples, read_pairs, read_prompts
from dpoframe.harness.suites.suite import Suite

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost

_PATHS = ("pairs", "evaluators", "lm_eval", "few_shot")
_IDLE = ("prompts", "pairs", "few_shot", "form", "generation", "samples", "evaluators", "backend")


@dataclass(frozen=True)
class FewShotKeys:
    """Worked examples before every prompt.

    Attributes:
        examples: A file of rows, a list of them, or a mapping as under `prompts`; a row has `prompt` and `response`.
        count: How many go before a prompt; None for all.
        seed: Draws them anew for every prompt; None takes the first ones.
        template: How an example reads in a text.
        separator: What stands between examples in a text.
    """

    examples: str | list[Any] | Mapping[str, Any]
    count: Annotated[int, Ge(1), Le(1000)] | None = None
    seed: Annotated[int, Ge(0)] | None = None
    template: str = Framing.template
    separator: str = Framing.separator

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class SuiteKeys:
    """The keys of a suite's file; see `Suite` and docs/evaluation.md."""

    name: Annotated[str, StringConstraints(pattern=r"^\w[\w .+:@=-]*$", max_length=100)]
    version: str | int
    description: str = ""
    prompts: str | list[Any] | Mapping[str, Any] = field(default_factory=list)
    pairs: str | Mapping[str, Any] | None = None
    system: str = ""
    form: Form = "auto"
    few_shot: Mapping[str, Any] | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    backend: str | Mapping[str, Any] = "modality"
    samples: Annotated[int, Ge(1), Le(100_000)] = 1
    seed: Annotated[int, Ge(0)] = 0
    evaluators: list[Any] = field(default_factory=list)
    lm_eval: Mapping[str, Any] | None = None

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


class SuiteDocument(Document):
    """A suite's document: places are named with file and line, as an editor opens them."""

    def where(self, path: KeyPath) -> str:
        """`evaluators.0.windw (small.yaml:9)`."""
        return super().where(path).replace("(line ", f"({self.name}:")


def read_suite(source: str | Path, plugins: PluginHost | None = None, overrides: Sequence[str] = ()) -> Suite:
    """Reads a suite; arguments and errors as for `load_suite`, but whether it can run here is not asked."""
    if plugins is None:
        from dpoframe.plugins import host

        plugins = host()
    document = _document(source, plugins)
    build = Assembly(document, plugins)
    build.faults += apply(document, overrides)
    inline = isinstance(document.data.get("prompts"), list)
    paths.resolve(document, _PATHS if inline else (*_PATHS, "prompts"))
    suite = _suite(build, str(source))
    if build.machine and not build.faults:
        raise build.machine[0]
    faults = [*build.faults, *(Fault("", str(error)) for error in build.machine)]
    if faults or suite is None:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"The suite {document.name} has {count}:", faults)
    return replace(suite, changes=tuple(change for change in overrides if change.startswith("evaluators")))


def read_evaluators(source: str | Path, overrides: Sequence[str] = (), plugins: PluginHost | None = None) -> list[Evaluator]:
    """The evaluators of a suite alone: neither its prompts nor its pairs need be there.

    Raises:
        ConfigError: the suite, a change or an evaluator is wrong.
    """
    if plugins is None:
        from dpoframe.plugins import host

        plugins = host()
    document = _document(source, plugins)
    build = Assembly(document, plugins)
    build.faults += apply(document, overrides)
    entries = document.data.get("evaluators")
    made = [_evaluator(build, entry, number) for number, entry in enumerate(entries if isinstance(entries, list) else ())]
    if build.faults or build.machine:
        raise ConfigError(
            f"The evaluators of the suite {document.name} cannot be had:",
            [*build.faults, *(Fault("", str(error)) for error in build.machine)],
        )
    return [one for one in made if one is not None]


def _document(source: str | Path, plugins: PluginHost) -> SuiteDocument:
    if str(source).startswith(paths.TASK):
        task = str(source).removeprefix(paths.TASK)
        data = {"name": f"{paths.TASK}{Path(task).stem if task.endswith(('.yaml', '.yml')) else task}", "version": "lm_eval"}
        return SuiteDocument({**data, "lm_eval": {"task": task}}, str(source), kind="suite")
    path = Path(source).expanduser()
    named = not isinstance(source, Path) and path.suffix not in (".yaml", ".yml")
    read = read_file(Path(plugins.get("suite", str(source))) if named else path, kind="suite")
    return SuiteDocument(**vars(read))


def _suite(build: Assembly, source: str) -> Suite | None:
    """The suite, or None where a key is wrong; faults are noted in `build` either way.

    Every section is read on its own, so that a wrong key in one hides no fault of another.
    """
    given = build.document.data
    keys, backend = build.filled(SuiteKeys, given, ()), _backend(build, given.get("backend"))
    if given.get("lm_eval") is not None:
        return _foreign(build, keys, source)
    entries = given.get("evaluators")
    evaluators = [_evaluator(build, entry, number) for number, entry in enumerate(entries if isinstance(entries, list) else ())]
    prompts, pairs = read_prompts(build, given.get("prompts", [])), read_pairs(build, given.get("pairs"))
    framing = _framing(build, given)
    made = tuple(one for one in evaluators if one is not None)
    _check_needs(build, made, bool(evaluators))
    if keys is None:
        return None
    return Suite(
        name=keys.name,
        version=str(keys.version),
        description=keys.description,
        prompts=prompts,
        pairs=pairs,
        generation=dict(keys.generation),
        samples=keys.samples,
        seed=keys.seed,
        evaluators=made,
        framing=replace(framing, system=keys.system, form=keys.form),
        backend=backend or Native(),
        source=source,
    )


def _evaluator(build: Assembly, entry: Any, number: int) -> Evaluator | None:
    part = build.part("evaluator", entry, ("evaluators", number))
    return None if part is None else part.value


def _backend(build: Assembly, given: Any) -> Backend | None:
    """The backend; a bare word is its kind."""
    section = {"kind": given} if isinstance(given, str) else given
    if not isinstance(section, Mapping):
        return Native()
    rest = dict(section)
    kind = rest.pop("kind", None)
    if kind not in KINDS:
        near = suggestion(str(kind), KINDS) or f"Known are: {', '.join(KINDS)}."
        build.fault(("backend", "kind"), "is required." if kind is None else f"is {kind!r:.80}.", near)
        return None
    if loose := [key for key in rest if is_secret(key, rest[key]) and key != "key_env"]:
        fix = "Put it into an environment variable, and name that: key_env."
        build.fault(("backend", loose[0]), "is a secret, and a suite is written into run folders.", fix)
        return None
    made: Backend | None = build.filled(KINDS[kind], rest, ("backend",), ["kind"])
    return made


def _framing(build: Assembly, given: Mapping[str, Any]) -> Framing:
    """The worked examples."""
    section = given.get("few_shot")
    shots = build.filled(FewShotKeys, section, ("few_shot",)) if isinstance(section, Mapping) else None
    if not isinstance(section, Mapping):
        return Framing()
    examples = read_examples(build, section.get("examples", []))
    if shots is None:
        return Framing()
    count = len(examples) if shots.count is None else shots.count
    if examples and count > len(examples):
        build.fault(("few_shot", "count"), f"is {count}, but there are {len(examples)} examples.")
    if any(part not in shots.template for part in ("{prompt}", "{response}")):
        build.fault(("few_shot", "template"), f"is {shots.template!r:.80}.", "It must hold {prompt} and {response}.")
    return Framing("", "auto", examples, count, shots.seed, shots.template, shots.separator)


def _foreign(build: Assembly, keys: SuiteKeys | None, source: str) -> Suite | None:
    """A suite that lm-evaluation-harness runs; keys that it would not heed are faults."""
    from dpoframe.harness.lm_eval.suite import LmEvalSuite

    given = build.document.data
    task = build.section(LmEvalKeys, given["lm_eval"], "lm_eval")
    for key in _IDLE:
        if key in given:
            build.fault((key,), "has no effect beside lm_eval.", "The task says so itself; see the keys of lm_eval.")
    if keys is None or task is None:
        return None
    return LmEvalSuite(
        name=keys.name,
        version=str(keys.version),
        description=keys.description or f"The task {task.task} of lm-evaluation-harness.",
        prompts=(),
        pairs=(),
        generation={},
        samples=1,
        seed=keys.seed,
        evaluators=(),
        framing=Framing(keys.system),
        source=source,
        task=task,
    )


def _check_needs(build: Assembly, evaluators: Sequence[Evaluator], listed: bool) -> None:
    """Evaluators whose samples the suite never makes, two of one id, and none at all."""
    given = build.document.data
    if not listed:
        build.fault(("evaluators",), "is required.", "Name at least one, such as response_length.")
    seen: set[str] = set()
    for evaluator in evaluators:
        spec = evaluator.spec
        if spec.id in seen:
            build.fault(("evaluators",), f"holds two evaluators that give the metric {spec.id!r}.", "Leave one out.")
        seen.add(spec.id)
        if spec.needs == "pair" and not given.get("pairs"):
            build.fault(("pairs",), f"is missing: the evaluator {spec.id!r} reads held-out pairs.")
        if spec.needs != "pair" and not given.get("prompts"):
            build.fault(("prompts",), f"is missing: the evaluator {spec.id!r} reads answers.")
