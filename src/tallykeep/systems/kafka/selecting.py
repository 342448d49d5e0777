"""Which topics are meant: names, globs and regular expressions, and Kafka's own topics only where they are asked for.

A pattern that begins with "~" is a regular expression that has to be found in the name ("~^orders-" anchors it);
every other one is a glob for the whole name: * any characters, ? one, [abc] one of these. Nothing included: all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate

from tallykeep.errors import ConfigError, SourceError

_WILD = re.compile(r"[*?\[\]]")


class NoSuchTopic(SourceError):
    """Topics that are asked for by name and are not there."""

    code = "topic_not_found"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be taken of a cluster's topics."""

    include: Sequence[str] = ()  # patterns; none: every topic
    exclude: Sequence[str] = ()  # patterns; they win
    internal: bool = False  # whether Kafka's own topics (__consumer_offsets, ...) may be taken
    internal_topics: Sequence[str] = ()  # patterns: which of them; none: all that `include` takes

    def problems(self) -> list[str]:
        """What is wrong with the patterns, a line each."""
        patterns = (*self.include, *self.exclude, *self.internal_topics)
        return [problem for pattern in patterns if (problem := _problem(pattern))]

    def of(self, topics: Iterable[tuple[str, bool]]) -> list[str]:
        """The names taken of (name, whether it is internal), in order.

        Raises: ConfigError for patterns that are none; NoSuchTopic for names that are not there, and where nothing
        is left.
        """
        if problems := self.problems():
            raise ConfigError(*problems)
        known = dict(topics)
        if missing := [name for name in self.include if not is_pattern(name) and name not in known]:
            raise NoSuchTopic(
                f"no topic {', '.join(map(repr, missing))} in this cluster: check the names in topics.include, "
                "and whether this user may see them."
            )
        found = sorted(name for name, internal in known.items() if self._takes(name, internal=internal))
        if not found:
            raise NoSuchTopic(f"of {len(known)} topics none is left by topics.include and topics.exclude.")
        return found

    def _takes(self, name: str, *, internal: bool) -> bool:
        if matches(self.exclude)(name) or not (matches(self.include)(name) or not self.include):
            return False
        return not internal or (self.internal and (not self.internal_topics or matches(self.internal_topics)(name)))


def matches(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is meant by one of `patterns`, which are sound."""
    compiled = [_compiled(pattern) for pattern in patterns]
    return lambda name: any(pattern.search(name) for pattern in compiled)


def is_pattern(text: str) -> bool:
    """Whether `text` may mean several names, or none."""
    return text.startswith("~") or _WILD.search(text) is not None


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern[1:] if pattern.startswith("~") else translate(pattern))  # re keeps what it compiled


def _problem(pattern: str) -> str:
    try:
        _compiled(pattern)
    except re.error as error:
        return f"{pattern!r} is not a regular expression: {error}"
    return "" if pattern.strip("~") else f"{pattern!r} names no topic"
