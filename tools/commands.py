"""docs/reference/commands.md, from the command line's own parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tallykeep.cli.main import build_parser

_INTRODUCTION = """\
# Commands

Generated from the command line itself; `make docs` writes this page.

Exit statuses: 0 done, 1 the answer is no, 2 wrong usage or settings, 3 a source or store did not answer,
130 interrupted.
"""


def commands_page() -> str:
    """The page in Markdown: one section a command, with its usage and options."""
    sections = [section for parser in commands(build_parser()) for section in _section(parser)]
    return "\n".join([_INTRODUCTION, *sections]).rstrip() + "\n"


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of all its sub-commands, in their order."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                yield from commands(child)


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {parser.prog}\n"
    if parser.description:
        yield " ".join(parser.description.split()) + "\n"
    rows = [_row(action) for action in parser._actions if not _hidden(action)]
    if rows:
        yield "| | |\n|---|---|"
        yield "\n".join(rows) + "\n"


def _hidden(action: argparse.Action) -> bool:
    return action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction)


def _row(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return f"| command | {', '.join(f'`{name}`' for name in action.choices)} |"
    value = "" if action.nargs == 0 else " " + _metavar(action)
    names = [f"`{option}{value}`" for option in action.option_strings] or [f"`{_metavar(action)}`"]
    text = (action.help or "") % {"default": action.default, "prog": ""}
    return "| " + ", ".join(names).replace("|", "\\|") + " | " + text.replace("|", "\\|") + " |"


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    metavar = action.metavar or action.dest.upper()
    return metavar if isinstance(metavar, str) else " ".join(metavar)
