"""Training and scoring on a Ray cluster, where the extra `ray` is installed.

Ray starts the processes, sees to it that they have their GPUs, and starts them again when one is lost; what each of them does
is what a process does that torchrun started. So a run on Ray is a run like any other: the same losses, the same folder.
"""

from __future__ import annotations

from dpoframe.launching.cluster import Workers
from dpoframe.launching.job import RayRun
from dpoframe.launching.reference import reference_on_ray
from dpoframe.launching.training import train_on_ray

__all__ = ["RayRun", "Workers", "reference_on_ray", "train_on_ray"]
