"""Every evaluator that comes with the core holds the contract that plugins are held to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from dpoframe import Evaluator
from dpoframe.builtin import EVALUATORS
from dpoframe.builtin.judge import EndpointJudge
from dpoframe.plugins import PluginHost
from dpoframe.testing.checking import contract_for


@pytest.fixture
def shorter_wins(endpoint: Any) -> Any:
    """A judge that prefers the shorter answer, and neither of two equal ones."""

    def reply(question: str) -> str:
        first = question.split("<answer_A>")[1].split("</answer_A>")[0]
        second = question.split("<answer_B>")[1].split("</answer_B>")[0]
        return "T" if first == second else "AB"[len(first) > len(second)]

    endpoint.reply = reply
    return endpoint


@pytest.mark.parametrize("name", EVALUATORS)
def test_evaluator_holds_the_contract(name: str, isolated_host: PluginHost, shorter_wins: Any) -> None:
    """No check fails, and none is skipped."""
    options = {"judge": {"url": shorter_wins.url, "model": "m"}} if name == "win_rate" else {}
    contract = contract_for(isolated_host, "evaluator", isolated_host.get("evaluator", name), options)
    assert [(one.check.name, one.message) for one in contract.run() if one.status != "passed"] == []


def parts() -> Iterator[type[Evaluator]]:
    """The classes."""
    found = PluginHost([], [])
    return (found.get("evaluator", name) for name in EVALUATORS)


def test_every_evaluator_and_field_is_described() -> None:
    """Each class says what it measures, and names each of its keys under `Attributes`."""
    for part in [*parts(), EndpointJudge]:
        text = part.__doc__ or ""
        assert len(text.split()) > 10, part
        assert [one.name for one in fields(part) if f"        {one.name}: " not in text and f"    {one.name}: " not in text] == []


def test_ids_are_unique() -> None:
    """No two evaluators give figures of one id."""
    ids = [part.spec.id for part in parts()]
    assert len(ids) == len(set(ids))
