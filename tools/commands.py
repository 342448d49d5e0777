"""docs/reference/commands.md, from the command line's own parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tallykeep.cli.main import EPILOG, _parser
from tallykeep.cli.parsers import Parser

_INTRODUCTION = f"""\
# Commands

Generated from the command line itself; `make docs` writes this page.

```text
{EPILOG.strip()}
```
"""


def commands_page() -> str:
    """The page in Markdown: one section a command, with its usage and options."""
    sections = [section for parser in command_tree() for section in _section(parser)]
    return "\n".join([_INTRODUCTION, *sections]).rstrip() + "\n"


def command_tree() -> Iterator[argparse.ArgumentParser]:
    """The parser of the program and those of all its commands, in their order."""
    yield from _with_children(_parser())


def _with_children(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    _fill(parser)
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                yield from _with_children(child)


def _fill(parser: argparse.ArgumentParser) -> None:
    """Have a parser say what it takes, as it does by itself only when its command is called."""
    if isinstance(parser, Parser) and parser._fill is not None:
        fill, parser._fill = parser._fill, None
        fill(parser)


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {parser.prog}\n"
    if parser.description:
        yield " ".join(parser.description.split()) + "\n"
    rows = [row for action in parser._actions if not _hidden(action) for row in _rows(action)]
    if rows:
        yield "| | |\n|---|---|"
        yield "\n".join(rows) + "\n"


def _hidden(action: argparse.Action) -> bool:
    return action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction)


def _rows(action: argparse.Action) -> Iterator[str]:
    if isinstance(action, argparse._SubParsersAction):
        for child in action._choices_actions:
            yield _row(f"`{child.dest}`", child.help or "")
        return
    value = "" if action.nargs == 0 else " " + _metavar(action)
    names = [f"`{option}{value}`" for option in action.option_strings] or [f"`{_metavar(action)}`"]
    yield _row(", ".join(names), (action.help or "") % {"default": action.default, "prog": ""})


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    metavar = action.metavar or action.dest.upper()
    return metavar if isinstance(metavar, str) else " ".join(metavar)
