"""The classifier inside the wheel of alt-profanity-check."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe import Asset, Available, Refused
from dpoframe_moderation.evaluators.classifier_weights import digest_of

NAME = "alt-profanity-check"
_MODULE = "profanity_check"


@dataclass(frozen=True)
class Profanity:
    """A linear model of word counts (Victor Zhou's, MIT licence): it knows swear words, and little of what is meant.

    Against human labels its ROC area is .84 on OpenAI's moderation samples, and .47 on HateCheck, which is no better than
    chance: hate without swear words passes, and swear words without hate do not. A default that needs no download, no verdict.
    """

    def probe(self) -> Available | Refused:
        """Whether it is installed."""
        if importlib.util.find_spec(_MODULE) is not None:
            return Available()
        return Refused(f"{NAME} is not installed", 'Install with: pip install "dpoframe-moderation[toxicity]"')

    def labels(self) -> tuple[str, ...]:
        """It has one."""
        return ()

    def assets(self) -> tuple[Asset, ...]:
        """Digest of its two files, none where it is not installed."""
        found = importlib.util.find_spec(_MODULE)
        if found is None or found.origin is None:
            return ()
        files = sorted((Path(found.origin).parent / "data").glob("*.joblib"))
        listing = "\n".join(f"{digest_of(file)}  {file.name}" for file in files)
        version = importlib.metadata.version(NAME)
        return (Asset(f"{NAME} {version}", f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}", "MIT"),)

    def chances(self, texts: Sequence[str]) -> list[float]:
        """The probability of each text to be toxic."""
        return [float(one) for one in _loaded().predict_prob(list(texts))] if texts else []


@functools.cache
def _loaded() -> Any:
    return importlib.import_module(_MODULE)
