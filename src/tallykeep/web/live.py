"""The web configuration in force: read at start, read again whenever one of its files changes.

Exporters read the file at every request; here a look at the files once a second does, off the event loop. What
cannot be used changes nothing: the old configuration stays in force, the log, a counter and an alert say so.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError
from tallykeep.metrics import Book
from tallykeep.runtime.threads import in_thread
from tallykeep.web.families import CONFIG_ERRORS, CONFIG_LOADED
from tallykeep.web.tls import LiveContext, make_context
from tallykeep.web.webconfig import WebConfig, read_web_config

LOOK_EVERY = 1.0  # seconds

_log = logging.getLogger(__name__)
_Mark = tuple[int, int, int] | None  # (inode, size, mtime in ns) of a file; None: not there


class _Loaded(NamedTuple):
    config: WebConfig
    context: ssl.SSLContext | None
    marks: Mapping[Path, _Mark]  # each taken before its file was read


class LiveWebConfig:
    """One web.config.yml. Making it reads the file and may raise ConfigError; nothing later does."""

    def __init__(self, path: Path, book: Book, clock: Clock) -> None:
        self._path = path
        self._book = book
        self._clock = clock
        self._broken = ""  # why the last change could not be used
        loaded = _load(path)
        self._marks = loaded.marks
        self.current = loaded.config
        self.context = LiveContext(loaded.context) if loaded.context else None
        self._warn()
        book.set(CONFIG_LOADED, 1, file=path)
        book.add(CONFIG_ERRORS, 0, file=path)

    async def watch(self) -> None:
        """Follow changes of the files until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        """Read everything again if a file has changed since the last look, or could not be used then."""
        seen = await in_thread(_marks, tuple(self._marks))
        if seen == self._marks and not self._broken:
            return
        self._marks = seen
        try:
            self._take(await in_thread(_load, self._path))
        except Exception as error:  # not ConfigError alone: a watch that dies would miss every later certificate
            self._refuse(str(error) or type(error).__name__)

    def _take(self, loaded: _Loaded) -> None:
        if (loaded.context is None) != (self.context is None):
            raise ConfigError("tls_server_config: TLS is switched on or off by a restart only")
        if self.context is not None and loaded.context is not None:
            self.context.current = loaded.context
        self.current, self._marks, self._broken = loaded.config, loaded.marks, ""
        self._book.set(CONFIG_LOADED, 1, file=self._path)
        _log.info("%s and the files it names were read anew", self._path)
        self._warn()

    def _refuse(self, problem: str) -> None:
        if problem == self._broken:
            return
        self._broken = problem
        self._book.set(CONFIG_LOADED, 0, file=self._path)
        self._book.add(CONFIG_ERRORS, file=self._path)
        _log.error("%s cannot be used, what was read before it stays in force: %s", self._path, problem)

    def _warn(self) -> None:
        for warning in self.current.warnings:
            _log.warning("%s", warning)


def _load(path: Path) -> _Loaded:
    marks = _marks((path,))
    config = read_web_config(path)
    if config.tls is None:
        return _Loaded(config, None, marks)
    marks |= _marks(config.tls.files)
    return _Loaded(config, make_context(config.tls), marks)


def _marks(files: Iterable[Path]) -> dict[Path, _Mark]:
    return {file: _mark(file) for file in files}


def _mark(file: Path) -> _Mark:
    try:
        told = file.stat()
    except OSError:
        return None
    return told.st_ino, told.st_size, told.st_mtime_ns
