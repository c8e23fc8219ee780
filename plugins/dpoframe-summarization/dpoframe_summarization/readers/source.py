"""What all data sets of summaries have in common: where they lie, how a model is asked, and which articles are taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from dpoframe import ConfigError, Content, DataError, MachineError, PreferencePair, RawRow, RefusedRow, read_rows
from dpoframe_summarization.articles import Article, Part, beginning, count, part_of
from dpoframe_summarization.articles.tidying import tidy

INSTRUCTION = "Summarize the following article in two or three sentences.\n\n{source}"
_PLACE = "{source}"


@dataclass(frozen=True)
class SummarySource:
    """Articles out of files or a data set of Hugging Face, as pairs of summaries.

    Attributes:
        path: A file, a folder, a list of them, or `hub:owner/name`.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
        instruction: What the model is asked, with `{source}` in the place of the article.
        form: `chat` asks in a message of the user, `text` in plain text.
        max_source_words: Words of an article that the model gets, from its beginning; None for all. The instruction is
            never cut, so choose it such that both fit in the model's context: English has about 1.4 tokens a word.
        tidy: Undo tokenisation: spaces before commas, `did n't`, names in lower case that the article writes with a capital.
        part: `train` or `test` for one side of a division by article, `all` for every article. A digest of the article's text
            decides, so an article that two data sets share is on one side in both.
        held_out: Share of the articles on the side `test`.
        leave_out: Codes of refusals (`tie`, `contradiction`, `unrated`, ...) to leave out without a word. Needed where a suite
            reads the data set, since a suite takes no refused rows.
    """

    get: ClassVar[str] = ""

    path: str | list[str] = ""
    split: str | None = None
    subset: str | None = None
    revision: str | None = None
    instruction: str = INSTRUCTION
    form: Literal["chat", "text"] = "chat"
    max_source_words: int | None = None
    tidy: bool = False
    part: Part = "all"
    held_out: float = 0.2
    leave_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """ConfigError for values that cannot be, MachineError where no path is given, DataError where nothing is there."""
        if faults := list(self._faults()):
            raise ConfigError(" ".join(faults))
        if not self.path:
            raise MachineError(
                f"No path is given. {self.get} Name it with the key path: --set data.path=FILE, of a suite --set prompts.path=FILE."
            )
        for path in [self.path] if isinstance(self.path, str) else self.path:
            if not path.startswith("hub:") and Path(path).suffix and not Path(path).expanduser().exists():
                raise DataError(f"{path} is not there (looked for from {Path.cwd()}). {self.get}")

    def __iter__(self) -> Iterator[PreferencePair | RefusedRow]:
        """Pairs, and a refusal for every row, summary or article that makes none."""
        for one in self._all():
            if not isinstance(one, RefusedRow) or one.code not in self.leave_out:
                yield one

    def articles(self) -> Iterator[Article | RefusedRow]:
        """The articles of the layout, cleaned."""
        raise NotImplementedError

    def pairs_of(self, article: Article) -> Iterator[PreferencePair | RefusedRow]:
        """The pairs of one article."""
        raise NotImplementedError

    def rows(self) -> Iterator[RawRow | RefusedRow]:
        """The rows as they are."""
        given: Any = self.path
        return read_rows(given, self.split, subset=self.subset, revision=self.revision)

    def prompt_of(self, article: Article) -> Content:
        """What the model is asked about an article."""
        shown = article.source if self.max_source_words is None else beginning(article.source, self.max_source_words)
        text = self.instruction.replace(_PLACE, shown)
        return [{"role": "user", "content": text}] if self.form == "chat" else text

    def meta_of(self, article: Article) -> dict[str, Any]:
        """What evaluators and reports read of an article: the whole source, the published summary, what was cut and cleaned."""
        words = count(article.source) if self.max_source_words is not None else 0
        known = {
            "reference": article.references[0] if article.references else "",
            "article": article.id,
            "source_cut": max(0, words - (self.max_source_words or words)),
            "removed_characters": article.removed,
        }
        place = {"origin": article.origin, "row": article.row}
        return {"source": article.source, **{key: value for key, value in known.items() if value}, **place}

    def _all(self) -> Iterator[PreferencePair | RefusedRow]:
        for article in self.articles():
            if isinstance(article, RefusedRow):
                yield article
            elif self.part == "all" or part_of(article.source, self.held_out) == self.part:
                yield from self.pairs_of(tidy(article) if self.tidy else article)

    def _faults(self) -> Iterator[str]:
        if _PLACE not in self.instruction:
            yield f"instruction is {self.instruction!r:.80}; it must hold {_PLACE}, where the article goes."
        if self.max_source_words is not None and self.max_source_words < 1:
            yield f"max_source_words is {self.max_source_words}; it must be at least 1."
        if not 0 < self.held_out < 1:
            yield f"held_out is {self.held_out}; it must be above 0 and below 1."
