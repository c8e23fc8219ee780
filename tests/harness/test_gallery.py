"""Pictures that a model drew: base and aligned side by side on the page, in a grid, bounded, and the same bytes each time."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from dpoframe import Media, Request, Sample, Scale
from dpoframe.evaluator import Evaluator, EvaluatorSpec
from dpoframe.harness import Subject, Suite, compare, report, run_suite
from dpoframe.harness.page import answers, pieces
from dpoframe.harness.suites.suite import Prompt
from dpoframe.telling import tables
from dpoframe.testing import ToyModality


@dataclass(frozen=True)
class Painter(ToyModality):
    """Answers with a PNG of one colour; `edge` pixels wide."""

    colour: str = "red"
    edge: int = 24

    def generate(self, model: nn.Module, requests: Sequence[Request]) -> Iterator[Sample]:
        """One picture a request, noisy where it is large, so that it does not shrink to nothing."""
        image = pytest.importorskip("PIL.Image")
        for request in requests:
            made = image.new("RGB", (self.edge, self.edge), self.colour)
            if self.edge > 100:
                made = image.blend(made, image.effect_noise(made.size, 90).convert("RGB"), 0.5)
            out = io.BytesIO()
            made.save(out, "PNG")
            yield Sample(request.id, request.prompt, Media("image", data=out.getvalue()))


@dataclass(frozen=True)
class Weight(Evaluator):
    """Bytes of a picture."""

    spec = EvaluatorSpec("weight", "1", "response", {"bytes": Scale(0, None, "bytes")}, "bytes")

    def score(self, sample: Sample) -> dict[str, float]:
        """Its file's size."""
        assert isinstance(sample.response, Media)
        assert sample.response.path is not None
        return {"bytes": float(len(sample.response.path.read_bytes()))}


def drawn(folder: Path, edge: int, count: int = 8) -> Path:
    """A run folder with the evaluations of two painters; a prompt tries to break out of the page."""
    prompts = tuple(Prompt(f"p{number}", f"<script>alert({number})</script> a cat") for number in range(count))
    suite = Suite("pictures", "1", "", prompts, (), {}, 1, 0, (Weight(),))
    model = ToyModality().build()
    for place, colour in (("base/eval", "red"), ("eval", "blue")):
        run_suite(Subject(colour, Painter(colour=colour, edge=edge), model), suite, folder / place / "pictures")
    return folder


def sources(page: str) -> list[bytes]:
    """The bytes of the page's pictures."""
    return [base64.b64decode(one) for one in re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', page)]


def test_base_and_aligned_stand_in_a_grid(tmp_path: Path) -> None:
    """Each prompt has both pictures, the base's first, as data; texts are escaped; the same page comes out again."""
    image = pytest.importorskip("PIL.Image")
    page = report(drawn(tmp_path / "run", 24)).read_text()
    colours = [image.open(io.BytesIO(one)).getpixel((3, 3)) for one in sources(page)]
    assert colours == [(255, 0, 0), (0, 0, 255)] * 8
    assert page.count('class="tiny"') == 16
    assert 'class="gallery"' in page
    assert "<script>" not in page
    assert "&lt;script&gt;alert(0)&lt;/script&gt; a cat" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    again = report(drawn(tmp_path / "other" / "run", 24)).read_text()
    assert sources(again) == sources(page)


def test_large_pictures_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures over the limit are made smaller; beyond the page's budget they are left out with a word."""
    monkeypatch.setattr(pieces, "PICTURES", 400_000)
    monkeypatch.setattr(pieces.Budget, "__init__", lambda self, left=400_000: setattr(self, "left", left))
    folder = drawn(tmp_path / "run", 900, count=6)
    page = report(folder).read_text()
    found = sources(page)
    assert 0 < len(found) < 12
    assert sum(map(len, found)) <= 400_000
    assert all(one[:3] == b"\xff\xd8\xff" for one in found)
    assert "left out to keep the page small" in page
    assert report(folder).read_text() == page


def test_texts_stand_in_no_grid() -> None:
    """Answers in words keep their full width."""
    side = answers.Side("a", [pieces.Piece(text="hi")], True, ())
    card = answers.Card("p", [pieces.Piece(text="say")], "", [side])
    group = answers.Group("All", 1, [card])
    part: Any = None
    assert not answers.Answers(part, "", [group], 1, ("a",)).pictures


def test_reporters_get_both_pictures(tmp_path: Path) -> None:
    """The table of samples has the prompt and both models' pictures as media, which a reporter may show."""
    folder = drawn(tmp_path / "run", 24, count=3)
    found = compare(folder / "base" / "eval" / "pictures", folder / "eval" / "pictures")
    columns, rows = tables(found)[""]
    assert columns[:3] == ["prompt", "base", "aligned"]
    assert all(isinstance(row[1], Media) and isinstance(row[2], Media) and row[1] != row[2] for row in rows)
