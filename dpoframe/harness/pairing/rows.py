"""The file of pairs that a recipe reads: rows in the plain or the media layout, with the evidence of each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpoframe.data.files import written
from dpoframe.errors import ConfigError
from dpoframe.harness.pairing.choosing import Chosen, Rated
from dpoframe.harness.pairing.scored import Measure
from dpoframe.harness.storage.media import Blobs
from dpoframe.types import Content, Media

_LONGEST = 200
"""Characters of a text that a reader of pairs keeps in their `meta`."""

_MOST_CARRIED = 40
"""Numbers beside the metrics that an evaluator may carry and that are evidence; more of them are a vector."""


@dataclass
class PairFile:
    """Writes pairs whole or not at all.

    Attributes:
        path: The file.
        measure: What decided.
        copy: Whether files are copied into `blobs/` beside it; else they must lie below its folder already.
    """

    path: Path
    measure: Measure
    copy: bool = True
    _made: list[Path] = field(default_factory=list)

    def write(self, pairs: Iterable[Chosen]) -> None:
        """Writes the rows.

        Raises:
            ConfigError: a file that is not copied lies outside the folder.
            MachineError: the disk is full, or the folder may not be written.
        """
        try:
            with written(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
                for row in self._rows(pairs):
                    file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        except BaseException:
            for left in self._made:
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # where it holds what was there before
                (self.path.parent / "blobs").rmdir()
            raise

    def _rows(self, pairs: Iterable[Chosen]) -> Iterator[dict[str, Any]]:
        spec = self.measure.evaluator.spec
        about = {
            "evaluator": spec.id[:_LONGEST],
            "evaluator_version": spec.version[:_LONGEST],
            "metric": self.measure.name[:_LONGEST],
            "better": self.measure.better,
        }
        for pair in pairs:
            better, worse = pair.better, pair.worse
            row = {
                "prompt": self._plain(better.candidate.sample.prompt),
                "chosen": self._plain(better.candidate.sample.response),
                "rejected": self._plain(worse.candidate.sample.response),
                "score_chosen": better.score,
                "score_rejected": worse.score,
                **about,
                "chosen_source": better.candidate.source[:_LONGEST],
                "rejected_source": worse.candidate.source[:_LONGEST],
                "chosen_id": better.candidate.sample.id[:_LONGEST],
                "rejected_id": worse.candidate.sample.id[:_LONGEST],
            }
            evidence = {**self._evidence(better, "chosen"), **self._evidence(worse, "rejected")}
            yield row | {name: value for name, value in evidence.items() if name not in row}

    def _evidence(self, one: Rated, side: str) -> dict[str, float]:
        """What the evaluator gave for one side, each number under a name of its own, so that readers of pairs keep it."""
        spec = self.measure.evaluator.spec
        kept = {*spec.metrics, *(spec.carried if len(spec.carried) <= _MOST_CARRIED else ())}
        return {f"{side}_{name}"[:_LONGEST]: value for name, value in one.values.items() if name in kept}

    def _plain(self, content: Content) -> Any:
        if isinstance(content, Media):
            return self._copied(content) if self.copy else self._named(content)
        return content if isinstance(content, str) else [dict(message) for message in content]

    def _copied(self, media: Media) -> Any:
        """The file's copy in `blobs/`, named by its content, so that one that occurs in many pairs is there once."""
        blobs = self.path.parent / "blobs"
        before = set(blobs.iterdir()) if blobs.is_dir() else set()
        named = Blobs(self.path.parent).stored(media)
        names = [named["path"], *([named["mask"]["path"]] if "mask" in named else [])]
        self._made += [file for name in names if (file := self.path.parent / name) not in before]
        return named

    def _named(self, media: Media) -> Any:
        """The file where it lies."""
        folder, place = self.path.parent.resolve(), Path(str(media.path)).resolve()
        if media.path is None or not place.is_relative_to(folder):
            raise ConfigError(f"{media.path} does not lie below {folder}, where the pairs are written. Leave --no-copy out.")
        named = {"media": media.kind, "path": place.relative_to(folder).as_posix()}
        return named if media.mask is None else {**named, "mask": self._named(replace(media.mask))}
