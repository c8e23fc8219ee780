"""Code between fences, as CommonMark has them, and as models write them: indented, unclosed, of any tag."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

_FENCE = re.compile(r"^(?P<indent>[ \t]*(?:>[ \t]?)*)(?P<marks>`{3,}|~{3,})(?P<tag>[^`\n]*)$")
_OTHER = {"bash", "sh", "shell", "console", "text", "txt", "plaintext", "output", "json", "markdown", "md", "diff", "pycon"}


@dataclass(frozen=True)
class Block:
    """The code between two fences.

    Attributes:
        code: The lines between, without the indentation they share.
        tag: The first word after the fence, in lower case.
        closed: Whether a closing fence was found.
    """

    code: str
    tag: str
    closed: bool

    @property
    def other(self) -> bool:
        """Whether the tag says that it is no Python."""
        return self.tag in _OTHER


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a text in their order; the last one may be without an end."""
    found: list[Block] = []
    inside: list[str] | None = None
    marks = tag = ""
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if inside is None:
            if fence:
                inside, marks, tag = [], fence["marks"], (fence["tag"].split() or [""])[0].lower()
        elif fence and fence["marks"].startswith(marks) and not fence["tag"].strip():
            found.append(_block(inside, tag, closed=True))
            inside = None
        elif fence and fence["marks"].startswith(marks) and not any(line.strip() for line in inside):
            # A fence right after a fence: models repeat the opening one.
            tag = (fence["tag"].split() or [""])[0].lower()
        else:
            inside.append(line)
    if inside is not None and any(line.strip() for line in inside):
        found.append(_block(inside, tag, closed=False))
    return found


def _block(lines: list[str], tag: str, *, closed: bool) -> Block:
    quoted = [line for line in lines if line.strip()]
    if quoted and all(line.lstrip().startswith(">") for line in quoted):
        lines = [re.sub(r"^[ \t]*>[ ]?", "", line) for line in lines]
    return Block(_transcript(textwrap.dedent("\n".join(lines))), tag.strip("{}.").removeprefix("language-"), closed)


def _transcript(code: str) -> str:
    """What was typed in a transcript of the interpreter; other code as it is."""
    lines = code.split("\n")
    if not lines[0].startswith(">>> "):
        return code
    return "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ", "...")))
