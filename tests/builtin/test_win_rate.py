"""The win rate by a judge: both orders, ties, controls, and what becomes of failures. Endpoints are stand-ins on this machine."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from dpoframe import Media, Sample, Scored, UnscoredError
from dpoframe.builtin.judge import EndpointJudge
from dpoframe.builtin.win_rate import NULL_ANSWER, TEMPLATE, WinRate, verdict
from dpoframe.harness.phases.limits import score_all, to_ask_again
from dpoframe.harness.storage.folder import Row

GOOD, BAD = "good answer", "bad"
ADAPTER: TypeAdapter[WinRate] = TypeAdapter(WinRate)


def answers(question: str) -> tuple[str, str]:
    """The two answers in a question."""
    found = re.search(r"<answer_A>\n(.*?)\n</answer_A>.*<answer_B>\n(.*?)\n</answer_B>", question, re.DOTALL)
    assert found is not None
    return found[1], found[2]


def prefers_good(question: str) -> str:
    """A sound judge: what is good wins in either place, and equal answers tie."""
    first, second = answers(question)
    merit = [text.startswith("good") for text in (first, second)]
    return "T" if merit[0] == merit[1] else "AB"[merit[1]]


def prefers_longer(question: str) -> str:
    """A judge that counts letters."""
    first, second = answers(question)
    return "T" if len(first) == len(second) else "AB"[len(second) > len(first)]


def sample(response: Any = GOOD, rival: Any = BAD, prompt: Any = "Say something.") -> Sample:
    """An answer with its rival."""
    return Sample("a", prompt, response, meta={"rival": rival})


def rated(endpoint: Any, reply: Any, *, controls: bool = True, **options: Any) -> WinRate:
    """The evaluator with a judge that answers by `reply`."""
    endpoint.reply = reply
    judge = {"url": endpoint.url, "model": "m", "retries": 0, **options}
    return ADAPTER.validate_python({"judge": judge, "controls": controls})


def test_a_win_with_its_controls(endpoint: Any) -> None:
    """A sound judge: the better answer wins in both orders; the constant answer ties with a bad one; itself is one half."""
    assert rated(endpoint, prefers_good).score(sample()) == {
        "win": 1.0,
        "tie": 0.0,
        "consistent": 1.0,
        "first": 0.5,
        "longer": 1.0,
        "by_length": 1.0,
        "length_difference": 8.0,  # 11 - 3 characters
        "null": 0.5,
        "self": 0.5,
    }


def test_a_loss(endpoint: Any) -> None:
    """The other way round: the longer answer won though it is the rival's."""
    found = rated(endpoint, prefers_good).score(sample(BAD, GOOD))
    assert {name: found[name] for name in ("win", "longer", "by_length", "length_difference", "null")} == {
        "win": 0.0,
        "longer": 1.0,
        "by_length": 0.0,
        "length_difference": -8.0,
        "null": 0.0,
    }


def test_a_judge_that_likes_a_place(endpoint: Any) -> None:
    """Always A: nothing is won or lost, no verdict is consistent, and the first place wins, against itself too."""
    found = rated(endpoint, lambda question: "A").score(sample())
    assert {name: found[name] for name in ("win", "tie", "consistent", "first", "null", "self")} == {
        "win": 0.5,
        "tie": 1.0,
        "consistent": 0.0,
        "first": 1.0,
        "null": 0.5,
        "self": 1.0,
    }


def test_a_judge_that_counts_letters(endpoint: Any) -> None:
    """The longer answer wins always, so the win rate is what length alone would give, and the null answer wins too."""
    evaluator = rated(endpoint, prefers_longer)
    found = [evaluator.score(sample("x" * length, "y" * 10)) for length in (5, 20, 20, 10)]
    assert [one["win"] for one in found] == [one["by_length"] for one in found] == [0.0, 1.0, 1.0, 0.5]
    assert [one.get("longer") for one in found] == [1.0, 1.0, 1.0, None]
    assert all(one["null"] == 1.0 for one in found)


def test_a_tie_in_one_order(endpoint: Any) -> None:
    """A win in one order and a tie in the other are .75, and not consistent."""
    found = rated(endpoint, lambda question: "A" if answers(question)[0] == GOOD else "T", controls=False).score(sample())
    assert (found["win"], found["tie"], found["consistent"], found["first"]) == (0.75, 0.0, 0.0, 0.75)


def test_both_orders_and_the_controls_are_asked(endpoint: Any) -> None:
    """Five questions: either first, the constant answer in both places, the answer against itself; two without controls."""
    rated(endpoint, prefers_good).score(sample())
    asked = [answers(body["messages"][0]["content"]) for body in endpoint.bodies]
    assert asked == [(GOOD, BAD), (BAD, GOOD), (NULL_ANSWER, BAD), (BAD, NULL_ANSWER), (GOOD, GOOD)]
    endpoint.bodies.clear()
    found = rated(endpoint, prefers_good, controls=False).score(sample())
    assert len(endpoint.bodies) == 2
    assert not {"null", "self"} & set(found)


def test_equal_answers_tie_unasked(endpoint: Any) -> None:
    """Equal texts are one half by symmetry; what only a verdict can tell is left out."""
    found = rated(endpoint, prefers_good, controls=False).score(sample(f" {GOOD}\n", GOOD))
    assert found == {"win": 0.5, "tie": 1.0, "by_length": 0.5, "length_difference": 0.0}
    assert endpoint.bodies == []


def test_places_are_filled_once(endpoint: Any) -> None:
    """An answer that holds a place's name, or marks, stays as it is."""
    rated(endpoint, lambda question: "T").score(sample("{second} \\1 {request}", BAD, "{first}?"))
    question = endpoint.bodies[0]["messages"][0]["content"]
    assert "<answer_A>\n{second} \\1 {request}\n</answer_A>" in question
    assert "<request>\n{first}?\n</request>" in question


def test_chat_messages_are_written_out(endpoint: Any) -> None:
    """A prompt of several turns is shown with its roles."""
    rated(endpoint, lambda question: "T").score(sample(prompt=[{"role": "user", "content": "Hi"}]))
    assert "<request>\nuser: Hi\n</request>" in endpoint.bodies[0]["messages"][0]["content"]


def test_nonsense_is_unscored_and_kept(endpoint: Any) -> None:
    """A reply without a verdict leaves the sample unscored, never lost, and the reason holds the whole reply."""
    evaluator = rated(endpoint, lambda question: "Both are lovely.\nI could not choose.")
    (score,) = score_all(evaluator, [Row("k", "a", "q", GOOD, meta={"rival": BAD})])
    assert score.values is None
    assert score.reason == "the judge gave no verdict: 'Both are lovely.\\nI could not choose.'"
    assert not to_ask_again(score)


def test_nonsense_in_a_control_leaves_the_win(endpoint: Any) -> None:
    """Where only a control gets no verdict, the sample keeps its win, and lacks the control."""

    def reply(question: str) -> str:
        return "hm" if NULL_ANSWER in question or answers(question)[0] == answers(question)[1] else prefers_good(question)

    found = rated(endpoint, reply).score(sample())
    assert found["win"] == 1.0
    assert not {"null", "self"} & set(found)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("A", 1.0),
        (" b.\n", 0.0),
        ("**A**", 1.0),
        ("(T)", 0.5),
        ("tie", 0.5),
        ("Answer: B", 0.0),
        ("The better answer is A.", 1.0),
        ("The second is truer.\n\nFinal verdict: B", 0.0),
        ("A\n\nIt is clearer than answer B.", 1.0),
        ("I prefer the first [[A]], not the second.", 1.0),
        ("[[C]]", 0.5),
        ("<think>\nB\nno, wait\n</think>\nA", 1.0),
        ("<think>\nA", None),
        ("A\nB", None),
        ("[[A]] [[B]]", None),
        ("A good question!", None),
        ("A is better.", 1.0),
        ("Answer B is better than answer A.", 0.0),
        ("Neither is better.", 0.5),
        ("A is not better.", None),
        ("A is better, but B is truer.", None),
        ("I like neither", None),
        ("Answer C", None),
        ("", None),
        ("*" * 20000, None),
    ],
)
def test_verdicts(reply: str, expected: float | None) -> None:
    """A verdict is a letter on a line of its own or in brackets; two that differ, or prose, are none."""
    assert verdict(reply) == expected


def test_down_is_unscored_and_asked_again(endpoint: Any) -> None:
    """An endpoint that stays down leaves its samples unscored, for the next run; after three it is left alone."""
    endpoint.statuses = [(500, '{"error": {"message": "broken"}}', {})] * 1000
    evaluator = rated(endpoint, prefers_good, concurrency=1)
    scores = list(score_all(evaluator, [Row(f"k{n}", f"s{n}", "q", GOOD, meta={"rival": BAD}) for n in range(20)]))
    assert all(one.values is None and to_ask_again(one) for one in scores)
    assert "the judge could not be asked" in scores[0].reason
    assert "broken" in scores[0].reason
    assert len(endpoint.bodies) <= 6


def test_samples_are_asked_about_side_by_side(endpoint: Any) -> None:
    """As many samples as `concurrency` says are under way: each question is answered once four are there. The order stays."""
    meeting = threading.Barrier(4)

    def reply(question: str) -> str:
        meeting.wait(30)
        return prefers_good(question)

    evaluator = rated(endpoint, reply, controls=False, concurrency=4)
    rows = [Row(f"k{n}", f"s{n}", "q", GOOD if n % 3 else BAD, meta={"rival": f"poor {n}"}) for n in range(12)]
    scores = list(score_all(evaluator, rows))
    assert [one.values["win"] for one in scores if one.values] == [1.0 if n % 3 else 0.5 for n in range(12)]


def test_pictures_cannot_be_judged(endpoint: Any) -> None:
    """A judge of words is not shown a picture's name in its place."""
    with pytest.raises(UnscoredError, match="reads words"):
        rated(endpoint, prefers_good).score(sample(Media("image", data=b"x")))


def test_length_controlled_is_the_aggregate(endpoint: Any) -> None:
    """Half of the answers 9 longer with .8 won, half 9 shorter with .4: .620204 at equal lengths, as written out elsewhere."""
    wins = [1.0] * 80 + [0.0] * 20 + [1.0] * 40 + [0.0] * 60
    scores = [Scored(str(n), str(n), {"win": win, "length_difference": 9.0 if n < 100 else -9.0}) for n, win in enumerate(wins)]
    assert rated(endpoint, prefers_good).aggregate(scores) == {"length_controlled": pytest.approx(0.620204, abs=1e-5)}


def test_template_of_ones_own(endpoint: Any) -> None:
    """A template in the suite takes the place of the built-in one, enters the evaluator's text, and needs its three places."""
    judge = EndpointJudge(endpoint.url, "m")
    evaluator = WinRate(judge, template="{request}|{first}|{second}", controls=False)
    endpoint.reply = lambda question: "T"
    evaluator.score(sample(prompt="q"))
    assert endpoint.bodies[0]["messages"][0]["content"] == f"q|{GOOD}|{BAD}"
    assert "{request}|{first}" in repr(evaluator)
    with pytest.raises(ValueError, match=r"template lacks \{second\}"):
        WinRate(judge, template="{request} {first}")


def test_the_template_is_an_asset() -> None:
    """The digest of the built-in template's bytes stands among the assets."""
    import hashlib

    (asset,) = WinRate.spec.assets
    assert asset.digest == hashlib.blake2b(TEMPLATE.read_bytes(), digest_size=16).hexdigest()


def test_the_template_ships(tmp_path: Path) -> None:
    """The built-in question names what it asks for, and its places once each."""
    text = TEMPLATE.read_text(encoding="utf-8")
    assert [text.count(f"{{{name}}}") for name in ("request", "first", "second")] == [1, 1, 1]
    assert "A if answer A is better" in text
