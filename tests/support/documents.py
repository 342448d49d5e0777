"""The project's own documents: which there are, their links, headings and code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced code block."""

    where: str  # file and line, for messages
    language: str
    text: str


def documents() -> list[Path]:
    """Every Markdown page a person reads, those beside the code included."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(found)


@cache
def read(path: Path) -> str:
    """The text of one page."""
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    """A path as messages and test ids show it."""
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str) -> Iterator[Block]:
    """The fenced code blocks of a page, in these languages (none given: all)."""
    text = read(path)
    for found in _FENCE.finditer(text):
        if not languages or found[2] in languages:
            line = text.count("\n", 0, found.start()) + 1
            yield Block(f"{name(path)}:{line}", found[2], _dedent(found[3], len(found[1])))


def links(path: Path) -> list[str]:
    """Where a page's links go, those inside code blocks left out."""
    return _LINK.findall(_FENCE.sub("", read(path)))


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {_anchor(heading) for heading in _HEADING.findall(_FENCE.sub("", read(path)))}


def guides() -> str:
    """What people read to learn the program, in one text: everything under docs that is not generated."""
    pages = [ROOT / "README.md", *(p for p in documents() if p.is_relative_to(ROOT / "docs"))]
    return "\n".join(read(p) for p in pages if p.parent.name != "reference")


def _anchor(heading: str) -> str:
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain).strip().lower().replace(" ", "-")


def _dedent(text: str, indent: int) -> str:
    return "".join(line[indent:] if line[:indent].isspace() else line for line in text.splitlines(keepends=True))
