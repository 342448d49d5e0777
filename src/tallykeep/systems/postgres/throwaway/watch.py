"""Who is told how far a throw-away server has come."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from tallykeep.runtime.progress import Meter, progress
from tallykeep.runtime.telling import remark

STAGES = {
    "plan": "planning", "programs": "looking for PostgreSQL", "restore": "restoring", "recovery": "recovering",
}  # fmt: skip


class Watch(Protocol):
    """Called from threads too."""

    def stage(self, name: str, total: int = 0) -> None:
        """It begins with something of `total` bytes; 0: nobody knows."""
        ...

    def advance(self, amount: int) -> None:
        """So many bytes more."""
        ...


class Silent:
    """Nobody."""

    def stage(self, name: str, total: int = 0) -> None:
        return

    def advance(self, amount: int) -> None:
        return


class Shown(AbstractContextManager["Shown"]):
    """A Watch with a meter for each stage that has a size, and a line for each that has none."""

    def __init__(self, cluster: str, titles: Mapping[str, str], *, silent: bool) -> None:
        """`titles`: what people read of each stage."""
        self._cluster = cluster
        self._titles = titles
        self._silent = silent
        self._stack = ExitStack()
        self._meter: Meter | None = None

    def stage(self, name: str, total: int = 0) -> None:
        self._stack.close()
        self._meter = None
        title = f"{self._cluster}: {self._titles.get(name, name)}"
        if total:
            self._meter = self._stack.enter_context(progress(title, total=total, silent=self._silent))
        elif not self._silent:
            remark(title)

    def advance(self, amount: int) -> None:
        if self._meter is not None:
            self._meter.advance(amount)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
