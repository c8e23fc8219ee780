"""Tests of problems as oracles that stay outside the sandbox: what to ask a program, and what to make of its answers."""

from __future__ import annotations

from dpoframe_code.oracle.case import Case, Cases
from dpoframe_code.oracle.extraction import extracted
from dpoframe_code.oracle.humaneval import humaneval_oracle
from dpoframe_code.oracle.script import Script

__all__ = ["Case", "Cases", "Script", "extracted", "humaneval_oracle"]
