"""What a system offers to the rest of the program, and what it is given.

A system is a folder of systems/. Command line, configuration, pages and docs find everything they need in its
`System` value and know no system by name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from tallykeep.clock import Clock
from tallykeep.metrics import Book, Family
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.work import Parts


@dataclass(frozen=True, slots=True)
class Tools:
    """What a system is given to work with."""

    clock: Clock
    book: Book
    state: StateDirectory


Opener = Callable[[Any, Tools], AbstractAsyncContextManager[Parts]]


@dataclass(frozen=True, slots=True)
class System:
    """A folder of systems/. `open` and `commands` are "module:name", imported when they are used."""

    name: str
    summary: str  # one line for --help
    settings: type[Any]  # a dataclass declared with config.model; its section in tallykeep.yaml is `name`
    families: tuple[Family, ...]
    enabled: Callable[[Any], bool]  # do these settings ask for it? (`run SYSTEM` asks outright)
    open: str  # of an Opener
    commands: str = ""  # of a Callable[[argparse.ArgumentParser], None] that adds the system's sub-commands
    needs_state: bool = False  # it must not run where a restart would forget its state
