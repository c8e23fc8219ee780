"""How often a judge finds the answer better than the rival's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dpoframe.builtin.judge import AnyJudge
from dpoframe.builtin.length_control import length_controlled
from dpoframe.errors import UnscoredError
from dpoframe.evaluator import Asset, Available, Evaluator, EvaluatorSpec, Refused, Scale, Scored
from dpoframe.types import Content, Media, Sample, as_text

TEMPLATE = Path(__file__).parent / "prompts" / "win_rate.txt"
NULL_ANSWER = "I am not able to answer this."

_PLACES = re.compile(r"\{(request|first|second)\}")
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_MARKED = re.compile(r"\[\[\s*(A|B|C|T|tie)\s*\]\]", re.IGNORECASE)
_LINE = re.compile(
    r"\W*(?:(?:the |final |my )*(?:answer|verdict|winner|better answer|choice)\W*(?:is\W+)?)?"
    r"(A|B|T|tie|neither)"
    r"(?:\W+is (?:the )?better(?: one| answer)?(?: than (?:the )?(?:answer )?[AB])?)?\W*",
    re.IGNORECASE,
)
_FIRST_WINS = {"a": 1.0, "b": 0.0, "t": 0.5, "c": 0.5, "tie": 0.5, "neither": 0.5}
_SHARE = Scale(0.0, 1.0, "share", None)


@dataclass(frozen=True)
class WinRate(Evaluator):
    """Share of prompts on which a judge prefers the model's answer to its rival (the base's, or the prompt's `reference`).

    The judge is asked twice, with either answer first, and the sample counts their mean: 1 for a win, 0 for a loss, 1/2
    for a tie or where the judge only likes a place. Answers that are equal word for word tie without being asked about.
    A judge that cannot be asked, or answers something else than a verdict, leaves the sample unscored, never lost.

    A win rate means little without its controls, which come with it:

    - `null`: the win rate of one constant answer. A judge that lets it win can be fooled (Zheng et al. 2024, arXiv 2410.07137).
    - `self`: the answer against itself, asked once: how often the first place wins. A sound judge gives 1/2.
    - `longer`: how often the longer of two answers won; `by_length`: the win rate, had the longer one always won;
      `length_controlled`: the win rate at equal lengths (see `dpoframe.builtin.length_control`).
    - `consistent`: how often both orders name one answer; `first`: how often the first place won, 1/2 where it does not matter.

    Attributes:
        judge: `{url, model, api_key_env}` of an OpenAI-compatible endpoint, or `{modality, ...}` of a local model.
        template: The question in place of the built-in one; holds {request}, {first} and {second}, and asks for A, B or T.
        null_answer: The constant answer.
        controls: Whether to ask for `null` and `self`: 5 questions a prompt with them, 2 without.
    """

    judge: AnyJudge
    template: str = ""
    null_answer: str = NULL_ANSWER
    controls: bool = True

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="win_rate",
        version="1",
        needs="rival",
        metrics={
            "win": Scale(0.0, 1.0, "share"),
            "tie": _SHARE,
            "consistent": _SHARE,
            "first": _SHARE,
            "longer": _SHARE,
            "by_length": _SHARE,
            "length_difference": Scale(None, None, "characters", None),
            "null": _SHARE,
            "self": _SHARE,
        },
        primary="win",
        assets=(Asset("prompts/win_rate.txt", hashlib.blake2b(TEMPLATE.read_bytes(), digest_size=16).hexdigest(), "Apache-2.0"),),
        aggregates={"length_controlled": Scale(0.0, 1.0, "share")},
        limit=900.0,
    )

    def __post_init__(self) -> None:
        """ValueError where the template lacks one of its places."""
        missing = {"request", "first", "second"} - set(_PLACES.findall(self._question))
        if missing:
            raise ValueError(f"template lacks {', '.join(sorted(f'{{{name}}}' for name in missing))}.")

    def probe(self) -> Available | Refused:
        """Whether the judge can be asked."""
        return self.judge.probe()

    def at_once(self) -> int:
        """As many as the judge takes."""
        return self.judge.at_once()

    def score(self, sample: Sample) -> Mapping[str, float]:
        """The win, what it rests on, and the controls; `null` and `self` are left out where the judge gives no verdict there."""
        answer, rival = _words(sample.response), _words(sample.meta["rival"])
        asked = [(answer, rival), (rival, answer)] if answer != rival else []
        controls = [(self.null_answer, rival), (rival, self.null_answer), (answer, answer)] if self.controls else []
        replies = self._replies(as_text(sample.prompt), asked + controls)
        found = _compared([_required(reply) for reply in replies[: len(asked)]], len(answer) - len(rival))
        return {**found, **_controlled([verdict(reply) for reply in replies[len(asked) :]])}

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """The win rate at equal lengths."""
        wins = [one.values["win"] for one in scores]
        return {"length_controlled": length_controlled(wins, [one.values["length_difference"] for one in scores])}

    @property
    def _question(self) -> str:
        return self.template or TEMPLATE.read_text(encoding="utf-8")

    def _replies(self, request: str, comparisons: Sequence[tuple[str, str]]) -> list[str]:
        question = self._question
        filled = [_filled(question, {"request": request, "first": first, "second": second}) for first, second in comparisons]
        return self.judge.ask(filled) if filled else []


def verdict(reply: str) -> float | None:
    """1 where the reply says that the first answer is better, 0 for the second, 1/2 for neither; None where it says no such thing.

    A verdict is [[A]] anywhere, or a line of its own: `A`, `**B**`, `Answer: A`, `B is better.` Thoughts between <think> marks
    are passed over. A reply with two different verdicts has none.
    """
    said = _THOUGHT.sub("", reply)
    found = _MARKED.findall(said) or [match[1] for line in said.splitlines() if (match := _LINE.fullmatch(line.strip()))]
    verdicts = {_FIRST_WINS[one.lower()] for one in found}
    return verdicts.pop() if len(verdicts) == 1 else None


def _filled(question: str, texts: Mapping[str, str]) -> str:
    """The question with its places filled in one pass: an answer that holds `{second}` stays as it is."""
    return _PLACES.sub(lambda place: texts[place[1]], question)


def _required(reply: str) -> float:
    found = verdict(reply)
    if found is None:
        raise UnscoredError(f"the judge gave no verdict: {reply!r}")
    return found


def _words(content: Content) -> str:
    if isinstance(content, Media):
        raise UnscoredError(f"the judge reads words, and this answer is an {content.kind}")
    return as_text(content).strip()


def _compared(verdicts: Sequence[float], difference: int) -> dict[str, float]:
    """The figures of the comparison, from the verdicts on (answer, rival) and (rival, answer); none where the two are equal."""
    ahead, behind = (verdicts[0], 1 - verdicts[1]) if verdicts else (0.5, 0.5)
    win = (ahead + behind) / 2
    found = {
        "win": win,
        "tie": float(win == 0.5),
        "by_length": 0.5 + 0.5 * ((difference > 0) - (difference < 0)),
        "length_difference": float(difference),
    }
    if verdicts:
        found |= {"consistent": float(ahead == behind), "first": (verdicts[0] + verdicts[1]) / 2}
    return found | {"longer": win if difference > 0 else 1 - win} if difference else found


def _controlled(verdicts: Sequence[float | None]) -> dict[str, float]:
    """The figures of the controls, from the verdicts on (null, rival), (rival, null) and (answer, answer)."""
    found: dict[str, float] = {}
    if not verdicts:
        return found
    ahead, behind, itself = verdicts
    if ahead is not None and behind is not None:
        found["null"] = (ahead + 1 - behind) / 2
    return found if itself is None else {**found, "self": itself}
