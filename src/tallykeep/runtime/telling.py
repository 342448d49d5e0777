"""What a command says: its result on standard output, as lines or as JSON, and remarks beside it on standard error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import TextIO


def tell(args: argparse.Namespace, body: object, lines: Iterable[str], stream: TextIO | None = None) -> None:
    """The result: JSON where `args.json` asks for it, else lines. `stream`: instead of standard output."""
    stream = stream or sys.stdout
    if args.json:
        stream.write(json.dumps(body, indent=2 if stream.isatty() else None) + "\n")
    else:
        stream.writelines(f"{line}\n" for line in lines)
    stream.flush()


def remark(*lines: str) -> None:
    """Say something beside the result."""
    sys.stderr.writelines(f"tallykeep: {line}\n" for line in lines)
    sys.stderr.flush()


def printable(text: str) -> str:
    """A text on a terminal: what a server or a file said may hold anything."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
