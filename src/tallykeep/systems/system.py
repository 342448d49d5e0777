"""What a system offers to the rest of the program, and what it is given.

A system is a folder of systems/. Command line, configuration, pages and docs find everything they need in its
`System` value and know no system by name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from tallykeep.clock import Clock
from tallykeep.config.model import Secret
from tallykeep.metrics import Book, Family
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.work import Parts


@dataclass(frozen=True, slots=True)
class Tools:
    """What a system is given to work with."""

    clock: Clock
    book: Book
    state: StateDirectory


class Web(NamedTuple):
    """How a system wants its routes served."""

    host: str
    port: int
    setting: str  # that names the port
    token: Secret = Secret("")  # asked of every client, where there is one
    origins: tuple[str, ...] = ()  # whose pages may ask from a browser


Opener = Callable[[Any, Tools], AbstractAsyncContextManager[Parts]]


@dataclass(frozen=True, slots=True)
class System:
    """A folder of systems/. `open`, `check`, `commands` and `routes` are "module:name", imported when they are used."""

    name: str
    summary: str  # one line for --help
    settings: type[Any]  # a dataclass declared with config.model; its section in tallykeep.yaml is `name`
    families: tuple[Family, ...]
    enabled: Callable[[Any], bool]  # do these settings ask for it? (`run SYSTEM` asks outright)
    open: str = ""  # of an Opener; a system without one has commands alone, and `run` has nothing to do for it
    check: str = ""  # of a Callable[[Any], None]: raises the ConfigError that `open` would, and sends nothing
    commands: str = ""  # of a Callable[[argparse.ArgumentParser], None] that adds the system's sub-commands
    routes: str = ""  # of a Callable[[Any], fastapi.APIRouter] that answers from the desk among its Parts
    web: Callable[[Any], Web] | None = None  # where its routes are served; the program's own place if it has none
    any_setting_asks: bool = False  # any variable or key of its section asks for it, defaults included
    needs_state: bool = False  # it must not run where a restart would forget its state
