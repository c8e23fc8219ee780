"""A subject as a model of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dpoframe.errors import ConfigError
from dpoframe.rng import seed_of
from dpoframe.types import Example, Request, as_text

if TYPE_CHECKING:
    from dpoframe.harness.lm_eval.keys import LmEvalKeys
    from dpoframe.harness.subject import Subject


def language_model(subject: Subject, keys: LmEvalKeys, seed: int) -> Any:
    """The subject as an `lm_eval.api.model.LM`.

    A causal model of transformers is handed to lm-evaluation-harness's own class with the modality's tokenizer, so that
    figures are those that others publish. Any other goes through `Modality.score` and `Modality.generate`.
    """
    tokenizer = getattr(getattr(subject.modality, "encoder", None), "tokenizer", None)
    if keys.scorer == "auto" and tokenizer is not None and hasattr(subject.model, "config"):
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=subject.model, tokenizer=tokenizer, backend="causal", batch_size=keys.batch_size)
    return _through_modality(subject, seed)


def _through_modality(subject: Subject, seed: int) -> Any:
    """A model that asks the modality. The class is made here, because its base comes with lm-evaluation-harness."""
    from lm_eval.api.model import LM

    class SubjectModel(LM):  # type: ignore[misc]
        """Scores and writes by the subject's modality."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """Log-probability of each continuation; whether it is the greedy one is not known, and said to be so never."""
            return [(value, False) for value in continuations(subject, [one.args for one in requests], seed)]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            """Log-probability of each text after an empty prompt."""
            return continuations(subject, [("", one.args[0]) for one in requests], seed)

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            """One text a request."""
            asked = [written(number, one.args[0], one.args[1], seed) for number, one in enumerate(requests)]
            found = {sample.id: as_text(sample.response) for sample in subject.answers(asked)}
            return [cut(found[one.id], one.settings["stop"]) for one in asked]

    return SubjectModel()


def continuations(subject: Subject, pairs: Sequence[tuple[str, str]], seed: int) -> list[float]:
    """Summed log-probability in nats of each continuation after its context, without an end of text."""
    examples = [
        Example(context, text, seed_of(seed, context, text), f"{number}", finished=False)
        for number, (context, text) in enumerate(pairs)
    ]
    return [value for value, _ in subject.scores(examples, "answers")]


def written(number: int, prompt: str, settings: dict[str, Any], seed: int) -> Request:
    """A request to write, its settings by the names of dpoframe."""
    names = {"until": "stop", "max_gen_toks": "max_new_tokens", "max_new_tokens": "max_new_tokens"}
    kept = {name: name for name in ("temperature", "top_p", "top_k", "repetition_penalty", "do_sample")}
    known = {**names, **kept}
    if unknown := sorted(set(settings) - set(known)):
        raise ConfigError(f"The task sets {', '.join(unknown)} for generation, which the modality does not know.")
    made = {known[name]: value for name, value in settings.items() if value is not None}
    if isinstance(made.get("stop"), str):
        made["stop"] = [made["stop"]]
    made["stop"] = [text for text in made.get("stop", []) if text]
    if made.get("do_sample") is False:
        made["temperature"] = 0.0
    return Request(str(number), prompt, seed_of(seed, number, prompt), {"max_new_tokens": 256, "temperature": 0.0, **made})


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string, for modalities that know none."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return text[: min(places)] if places else text
