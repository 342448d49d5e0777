"""Argument parsers that are filled only when their command is called, and that suggest what was meant.

argparse imports in a few milliseconds; what a command needs is imported when its parser is asked to parse.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from tallykeep.config.sources import did_you_mean

Fill = Callable[["Parser"], None]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that calls `fill` on itself before it parses."""

    def __init__(self, *args: Any, fill: Fill | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Formatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._fill = fill

    # argparse's own overloads cannot be repeated here without repeating their type variables
    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does, once the command has said what it takes."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raises: ArgumentError that says what was meant, in place of a list of everything."""
        choices = action.choices
        if choices is None or value in choices:
            return
        hint = did_you_mean(str(value), map(str, choices)) or f", only {listed(choices)}"
        raise argparse.ArgumentError(action, f"there is no {value!r}{hint}")

    def error(self, message: str) -> NoReturn:
        """End with status 2: one line, and where help is."""
        self.exit(2, f"{self.prog}: {message}\nTry `{self.prog} --help`.\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps examples as written, with room for the longest command beside its summary."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def listed(words: Iterable[object]) -> str:
    """ "a, b and c"."""
    *most, last = [str(word) for word in words]
    return f"{', '.join(most)} and {last}" if most else last
