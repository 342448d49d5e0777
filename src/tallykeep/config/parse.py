"""How a setting's text becomes its value, and what may stand there.

Environment and tallykeep.yaml are read alike: every value is text, as written, until its parser reads it. So an
S3 prefix of 0123 stays 0123, and "no" is a flag only where a flag is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Generic, TypeVar

from tallykeep.units import parse_duration, parse_size

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Parser(Generic[T_co]):
    """Reads a text. `allowed` says to people what may stand there. Calling it raises ValueError."""

    read: Callable[[str], T_co]
    allowed: str

    def __call__(self, text: str) -> T_co:
        return self.read(text)


def _flag(text: str) -> bool:
    return _FLAGS[text.lower()]


def _bounded(read: Callable[[str], T], low: float | None, high: float | None) -> Callable[[str], T]:
    def parse(text: str) -> T:
        value = read(text)
        if isinstance(value, float) and not isfinite(value):
            raise ValueError("not finite")
        if (low is not None and not value >= low) or (high is not None and not value <= high):  # type: ignore[operator]
            raise ValueError("out of range")
        return value

    return parse


def _range(noun: str, low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{noun} from {low:g} to {high:g}"
    return (
        noun + (f", {low:g} or more" if low is not None else "") + (f", {high:g} or less" if high is not None else "")
    )


def integer(low: int | None = None, high: int | None = None) -> Parser[int]:
    """A whole number within bounds."""
    return Parser(_bounded(int, low, high), _range("a whole number", low, high))


def number(low: float | None = None, high: float | None = None) -> Parser[float]:
    """A number within bounds."""
    return Parser(_bounded(float, low, high), _range("a number", low, high))


def duration(low: float | None = None) -> Parser[float]:
    """Seconds, written as a number or as in "1h30m"; at least `low` seconds."""
    least = f", {low:g} s or more" if low else ""
    return Parser(_bounded(parse_duration, low, None), f"seconds, or a duration such as 30s, 5m, 1h30m, 7d{least}")


def size(low: int | None = None) -> Parser[int]:
    """Bytes, written as a number or as in "64MiB"; at least `low` bytes."""
    least = f", {low} bytes or more" if low else ""
    return Parser(_bounded(parse_size, low, None), f"bytes, or a size such as 64MiB, 1.5GB{least}")


def one_of(*words: str) -> Parser[str]:
    """One of `words`, in any case."""
    known = {word.lower(): word for word in words}
    return Parser(lambda text: known[text.lower()], ", ".join(words))


TEXT: Parser[str] = Parser(str, "text")
PATH: Parser[Path] = Parser(Path, "a path")
FLAG: Parser[bool] = Parser(_flag, "true or false")
PORT: Parser[int] = integer(0, 65535)
