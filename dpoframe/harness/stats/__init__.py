"""Intervals for the figures of an evaluation, and for the difference of two evaluations of the same prompts.

Everything takes plain sequences of floats and returns an `Interval` at the 95 % level; the functions that return an
`Estimate` know the interval at any level, and with it the p value.
"""

from __future__ import annotations

from dpoframe.harness.stats.aggregate import (
    PairedAggregate,
    aggregate_estimates,
    aggregate_interval,
    paired_aggregate_difference,
    paired_aggregates,
)
from dpoframe.harness.stats.family import holm
from dpoframe.harness.stats.interval import LEVEL, TAIL, UNKNOWN, Estimate, Interval, from_interval, student
from dpoframe.harness.stats.mean import (
    cluster_stderr,
    mean_estimate,
    mean_interval,
    paired_difference,
    paired_estimate,
    t_interval,
)
from dpoframe.harness.stats.power import smallest_detectable, units_needed
from dpoframe.harness.stats.share import mcnemar, share, share_difference, tango, wilson

__all__ = [
    "LEVEL",
    "TAIL",
    "UNKNOWN",
    "Estimate",
    "Interval",
    "PairedAggregate",
    "aggregate_estimates",
    "aggregate_interval",
    "cluster_stderr",
    "from_interval",
    "holm",
    "mcnemar",
    "mean_estimate",
    "mean_interval",
    "paired_aggregate_difference",
    "paired_aggregates",
    "paired_difference",
    "paired_estimate",
    "share",
    "share_difference",
    "smallest_detectable",
    "student",
    "t_interval",
    "tango",
    "units_needed",
    "wilson",
]
