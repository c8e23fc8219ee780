"""Articles with their summaries, whatever file they come from."""

from dpoframe_summarization.articles.article import Article, Summary
from dpoframe_summarization.articles.broken import BrokenError
from dpoframe_summarization.articles.part import Part, part_of
from dpoframe_summarization.articles.words import beginning, count

__all__ = ["Article", "BrokenError", "Part", "Summary", "beginning", "count", "part_of"]
