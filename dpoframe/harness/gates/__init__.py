"""A release gate: its file, read by `load_gate`, and the verdict on two models' comparisons, given by `judge`."""

from __future__ import annotations

from dpoframe.harness.gates.gate_file import Gate, GateRow, load_gate
from dpoframe.harness.gates.judging import Judged, Judgement, judge

__all__ = ["Gate", "GateRow", "Judged", "Judgement", "judge", "load_gate"]
