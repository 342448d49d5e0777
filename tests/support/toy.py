"""A system small enough to see through: `toy` watches a file whose text is its verdict.

Each run of `tallykeep` in a test that uses it is the real program with one system exchanged.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from tallykeep.config.model import Secret, setting
from tallykeep.config.parse import PATH, duration
from tallykeep.errors import TallykeepError, Unreachable
from tallykeep.metrics import UNKNOWN, Alert, Family, Kind, Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.work import Parts
from tallykeep.systems import System, Tools
from tallykeep.units import BYTES, STATE

VERDICT = Family(
    "toy_verdict",
    Kind.STATE_SET,
    STATE,
    ("target",),
    "What the file says.",
    states=("good", "bad", UNKNOWN),
    alerts=(Alert("ToyBad", '{n}{toy_verdict!="good"} == 1', "The toy is broken."),),
)
SIZE = Family("toy_size_bytes", Kind.GAUGE, BYTES, ("target",), "Size of the file.")


@dataclass(frozen=True, slots=True)
class ToySettings:
    """A file that is watched."""

    file: Path | None = setting(None, env="TOY_FILE", switch=True, parse=PATH, help="The file.")
    interval: float = setting("60", env="TOY_INTERVAL", parse=duration(low=0.05), help="Seconds between two looks.")
    timeout: float = setting("60", env="TOY_TIMEOUT", parse=duration(low=0.05), help="Seconds that a look may take.")
    stubborn: bool = setting(False, env="TOY_STUBBORN", help="Never close.")
    password: Secret = setting(Secret(""), env="TOY_PASSWORD", parse=Secret, help="Unlocks nothing.")


class ToyCollector:
    """Reads the file. "hang" as its text hangs for ever in a thread; a missing file is Unreachable."""

    name = "toy"
    target = "file"

    def __init__(self, file: Path, interval: float, timeout: float) -> None:
        self._file = file
        self.interval = interval
        self.timeout = timeout

    def verdicts(self) -> Sequence[Sample]:
        return (VERDICT(UNKNOWN, target=self.target),)

    async def collect(self) -> AsyncIterator[Sample]:
        try:
            text = await in_thread(self._file.read_text)
        except OSError as error:
            raise Unreachable(f"{self._file} cannot be read: {error.strerror}") from error
        if text == "hang":
            await in_thread(threading.Event().wait)
        yield VERDICT(text, target=self.target)
        yield SIZE(len(text), target=self.target)


@asynccontextmanager
async def open_toy(settings: ToySettings, tools: Tools) -> AsyncIterator[Parts]:
    tools.state.write("opened", b"1")
    file = settings.file or Path("missing")
    yield Parts(collectors=[ToyCollector(file, settings.interval, settings.timeout)])
    if settings.stubborn:
        await asyncio.Event().wait()


def commands(parser: argparse.ArgumentParser) -> None:
    toys = parser.add_subparsers(metavar="COMMAND")
    for name in ("fine", "many-problems", "defect", "interrupted", "chatty"):
        toys.add_parser(name).set_defaults(run=_run, name=name)


def _run(args: argparse.Namespace) -> int:
    if args.name == "many-problems":
        raise TallykeepError("one\ntwo")
    if args.name == "defect":
        raise ZeroDivisionError("oops")
    if args.name == "interrupted":
        raise KeyboardInterrupt
    if args.name == "chatty":
        for _ in range(100_000):
            sys.stdout.write("chatter\n")
    return 0


TOY = System(
    name="toy",
    summary="watches a file",
    settings=ToySettings,
    families=(VERDICT, SIZE),
    enabled=lambda settings: settings.file is not None,
    open="tests.support.toy:open_toy",
    commands="tests.support.toy:commands",
)


def use_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `toy` be the only system of this process."""
    for module in ("main", "run", "metrics", "config", "sections"):
        monkeypatch.setattr(import_module(f"tallykeep.cli.{module}"), "all_systems", lambda: (TOY,))


MAIN = """
import sys
from pytest import MonkeyPatch
from tests.support.toy import use_toy
from tallykeep.cli.main import main
use_toy(MonkeyPatch())
sys.exit(main())
"""
PROGRAM = (sys.executable, "-c", MAIN)  # tallykeep as a process of its own, with toy as its only system
