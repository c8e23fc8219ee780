"""What a run will take, before any weight is loaded.

The policy is outlined without values and one optimizer step is gone through as the trainer does it, on tensors that have shapes
and no content. What it allocates and computes is written down on the way, so no formula of a kind of model is needed.
"""

from __future__ import annotations

from dpoframe.planning.hardware import PUBLISHED, Hardware, find_hardware
from dpoframe.planning.plan import PARTS, Memory, Operations, Plan, make_plan

__all__ = ["PARTS", "PUBLISHED", "Hardware", "Memory", "Operations", "Plan", "find_hardware", "make_plan"]
