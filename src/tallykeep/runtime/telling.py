"""What a command says: its result on standard output, as lines or as JSON, and remarks beside it on standard error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable


def tell(args: argparse.Namespace, body: object, lines: Iterable[str]) -> None:
    """The result: JSON where `args.json` asks for it, else lines."""
    if args.json:
        sys.stdout.write(json.dumps(body, indent=2 if sys.stdout.isatty() else None) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def remark(*lines: str) -> None:
    """Say something beside the result."""
    sys.stderr.writelines(f"tallykeep: {line}\n" for line in lines)
    sys.stderr.flush()
