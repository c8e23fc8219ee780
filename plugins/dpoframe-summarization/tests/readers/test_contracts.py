"""Every data set of the plugin holds to the contract, on its own example rows."""

from __future__ import annotations

from dpoframe_summarization.readers.documents import CnnDm, OwnSummaries, RatedSummaries, SciTldr, XSum
from dpoframe_summarization.readers.frank import Frank
from dpoframe_summarization.readers.summeval import SummEval
from dpoframe_summarization.readers.tldr import TldrComparisons

from dpoframe.testing import DatasetContract


class TestSummEval(DatasetContract):
    dataset = SummEval
    options = SummEval.example_options


class TestFrank(DatasetContract):
    dataset = Frank
    options = Frank.example_options


class TestTldrComparisons(DatasetContract):
    dataset = TldrComparisons
    options = TldrComparisons.example_options


class TestSciTldr(DatasetContract):
    dataset = SciTldr
    options = SciTldr.example_options


class TestCnnDm(DatasetContract):
    dataset = CnnDm
    options = CnnDm.example_options


class TestXSum(DatasetContract):
    dataset = XSum
    options = XSum.example_options


class TestCorruptedSummaries(DatasetContract):
    dataset = OwnSummaries
    options = OwnSummaries.example_options


class TestRatedSummaries(DatasetContract):
    dataset = RatedSummaries
    options = RatedSummaries.example_options
