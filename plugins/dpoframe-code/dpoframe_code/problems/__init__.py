"""Problems of code benchmarks: read from the layouts in which they are published, asked, and judged."""

from __future__ import annotations

from dpoframe_code.problems.judging import oracle_of
from dpoframe_code.problems.problem import Kind, Problem
from dpoframe_code.problems.reading import problem_of, read_problems

__all__ = ["Kind", "Problem", "oracle_of", "problem_of", "read_problems"]
