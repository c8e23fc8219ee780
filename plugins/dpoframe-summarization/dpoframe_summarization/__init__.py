"""Summarization for dpoframe.

This module is what the entry point names; it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dpoframe import hookimpl

__version__ = "0.1.0"

_HERE = Path(__file__).parent


@hookimpl
def dpoframe_evaluators() -> Mapping[str, str]:
    """Scores of summaries."""
    return {
        "bertscore": "dpoframe_summarization.evaluators.bertscore:BertScore",
        "extractive": "dpoframe_summarization.evaluators.extractive:Extractive",
        "faithfulness": "dpoframe_summarization.evaluators.faithfulness:Faithfulness",
        "hallucination": "dpoframe_summarization.evaluators.hallucination:Hallucination",
        "rouge": "dpoframe_summarization.evaluators.rouge:Rouge",
        "similarity": "dpoframe_summarization.evaluators.similarity:Similarity",
        "summary_length": "dpoframe_summarization.evaluators.summary_length:SummaryLength",
    }


@hookimpl
def dpoframe_datasets() -> Mapping[str, str]:
    """Summaries in published layouts, and of one's own, as preference pairs."""
    return {
        "cnn_dm": "dpoframe_summarization.readers.documents:CnnDm",
        "corrupted_summaries": "dpoframe_summarization.readers.documents:OwnSummaries",
        "frank": "dpoframe_summarization.readers.frank:Frank",
        "rated_summaries": "dpoframe_summarization.readers.documents:RatedSummaries",
        "scitldr": "dpoframe_summarization.readers.documents:SciTldr",
        "summeval": "dpoframe_summarization.readers.summeval:SummEval",
        "tldr_comparisons": "dpoframe_summarization.readers.tldr:TldrComparisons",
        "xsum": "dpoframe_summarization.readers.documents:XSum",
    }


@hookimpl
def dpoframe_suites() -> Mapping[str, Path]:
    """Every YAML file beside this module in `suites/`, by its file name without the ending."""
    return {path.stem: path for path in sorted((_HERE / "suites").glob("*.yaml"))}


@hookimpl
def dpoframe_recipes() -> Mapping[str, Path]:
    """Every YAML file beside this module in `recipes/`, by its file name without the ending."""
    return {path.stem: path for path in sorted((_HERE / "recipes").glob("*.yaml"))}
