"""How a problem is asked."""

from __future__ import annotations

import ast
from typing import Literal, TypeAlias

from dpoframe import Content
from dpoframe_code.extraction.source import tree_of
from dpoframe_code.problems.problem import Problem

Form: TypeAlias = Literal["chat", "base"]
"""`chat`: a message that asks for code. `base`: a text that a model without any training in chat goes on with."""

_ANSWER = "Answer with one Python code block that holds the whole program, imports included."


def prompt_of(problem: Problem, form: Form) -> Content:
    """What the model is asked; in the base form HumanEval's prompt as it is, and MBPP's task as a docstring to go on after."""
    return _chat(problem) if form == "chat" else _base(problem)


def _chat(problem: Problem) -> Content:
    if problem.starter:
        body = f"Complete the Python function `{problem.entry_point}`.\n\n{fenced(problem.starter)}"
    else:
        tests = fenced("\n".join(problem.shown))
        body = f"{problem.text}\n\nName the function `{problem.entry_point}`. It has to pass these tests:\n\n{tests}"
    return [{"role": "user", "content": f"{body}\n\n{_ANSWER}"}]


def _base(problem: Problem) -> Content:
    if problem.starter:
        return problem.starter
    lines = [problem.text, *problem.shown]
    return '"""\n{}\n"""\n'.format("\n".join(lines).replace('"""', "'''"))


def answer_of(problem: Problem, form: Form) -> str:
    """The benchmark's own solution as an answer to the prompt."""
    if form == "base" and problem.starter:
        return problem.solution.removeprefix(problem.starter)
    return problem.solution if form == "base" else fenced(_laid_out(problem.solution))


def _laid_out(code: str) -> str:
    """The same program as most Python is written, without its comments.

    MBPP's solutions are indented by one space, two or a tab. A model that writes four, and is aligned to these, loses count
    of its own indentation.
    """
    tree = tree_of(code)
    return code if tree is None else ast.unparse(tree)


def blank_of(problem: Problem, form: Form) -> str:
    """An answer that does nothing: the signature with no body but `raise NotImplementedError`."""
    body = "    raise NotImplementedError\n"
    if form == "base" and problem.starter:
        return body
    starter = problem.starter or f"def {problem.entry_point}(*args):\n"
    return starter + body if form == "base" else fenced(starter + body)


def fenced(code: str) -> str:
    """Code between fences."""
    return "```python\n{}\n```".format(code.strip("\n"))
