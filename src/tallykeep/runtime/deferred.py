"""What a command does is imported when it runs: `--help` and every other command start without it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from importlib import import_module


def deferred(where: str) -> Callable[[Namespace], int]:
    """What imports "package.module:function" and calls it; its answer is the exit status."""
    module, _, name = where.partition(":")

    def run(args: Namespace) -> int:
        status: int = getattr(import_module(module), name)(args)
        return status

    return run
