"""Moderation for dpoframe.

This module is what the entry point names; it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dpoframe import hookimpl

__version__ = "0.1.0"

_HERE = Path(__file__).parent


@hookimpl
def dpoframe_datasets() -> Mapping[str, str]:
    """Labelled texts, and answers that were judged, from their published files."""
    texts, exchanges, answers = (f"dpoframe_moderation.readers.{module}" for module in ("texts", "exchanges", "answers"))
    return {
        "aegis": f"{exchanges}:aegis",
        "beavertails": f"{exchanges}:beavertails",
        "davidson": f"{texts}:davidson",
        "hatecheck": f"{texts}:hatecheck",
        "labelled_texts": f"{texts}:labelled_texts",
        "moderation_texts": "dpoframe_moderation.moderation_texts:moderation_texts",
        "openai_moderation": f"{texts}:openai_moderation",
        "safe_answers": f"{answers}:safe_answers",
        "safe_rlhf": f"{exchanges}:safe_rlhf",
        "toxic_chat": f"{exchanges}:toxic_chat",
        "xstest": f"{texts}:xstest",
        "xstest_answers": f"{answers}:xstest_answers",
    }


@hookimpl
def dpoframe_evaluators() -> Mapping[str, str]:
    """Scores of moderators, and of what chat models write."""
    return {
        "moderation": "dpoframe_moderation.evaluators.moderation:Moderation",
        "moderation_scores": "dpoframe_moderation.evaluators.moderation_scores:ModerationScores",
        "refusal": "dpoframe_moderation.evaluators.refusal:Refusal",
        "toxicity": "dpoframe_moderation.evaluators.toxicity:Toxicity",
    }


@hookimpl
def dpoframe_modalities() -> Mapping[str, str]:
    """The modality `text_classifier`."""
    return {"text_classifier": "dpoframe_moderation.classifier.modality:TextClassifier"}


@hookimpl
def dpoframe_losses() -> Mapping[str, str]:
    """Losses for moderators, usable by any modality."""
    return {"hs_dpo": "dpoframe_moderation.losses.hs_dpo:HsDpo"}


@hookimpl
def dpoframe_suites() -> Mapping[str, Path]:
    """Every YAML file beside this module in `suites/`, by its file name without the ending."""
    return {path.stem: path for path in sorted((_HERE / "suites").glob("*.yaml"))}


@hookimpl
def dpoframe_recipes() -> Mapping[str, Path]:
    """Every YAML file beside this module in `recipes/`, by its file name without the ending."""
    return {path.stem: path for path in sorted((_HERE / "recipes").glob("*.yaml"))}
