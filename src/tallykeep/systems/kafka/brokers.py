"""Connections to the brokers of a cluster: one for each broker and lane, opened when needed, again after an error.

Requests of one lane are sent in the order in which `request` was called, also while the connection is still being
opened, and are answered in that order. Lanes exist so that a large answer does not hold up what else is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tallykeep.errors import SourceError
from tallykeep.systems.kafka.connection import Connection, Security

Address = tuple[str, int]


class Brokers:
    """Asks brokers. Closed, every request under way ends with Unreachable."""

    def __init__(self, security: Security, *, timeout: float = 30.0) -> None:
        """`timeout`: seconds for opening a connection."""
        self._security = security
        self._timeout = timeout
        self._lines: dict[tuple[Address, int], asyncio.Task[Connection]] = {}
        self._turns: dict[tuple[Address, int], asyncio.Lock] = {}

    async def request(
        self, address: Address, lane: int, api_key: int, version: int, body: bytes | Sequence[bytes | memoryview],
        *, timeout: float = 60.0, check: Callable[[], None] | None = None,
    ) -> memoryview:  # fmt: skip
        """The body of the answer. Raises: Unreachable, Refused, Malformed; the next request opens a new connection.

        `check` is called when the request's turn has come, just before it is sent; what it raises ends it.
        """
        line = (address, lane)
        turn = self._turns.setdefault(line, asyncio.Lock())  # fair: who came first goes first
        async with turn:
            connection = await self._connection(line)
            if check:
                check()
            answer = connection.send(api_key, version, body)
        try:
            return await connection.receive(answer, timeout=timeout)
        except (SourceError, asyncio.CancelledError):
            self._forget(line, connection)
            raise

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        lines, self._lines = self._lines, {}
        for task in lines.values():
            task.cancel()
        for opened in await asyncio.gather(*lines.values(), return_exceptions=True):
            if isinstance(opened, Connection):
                opened.close()

    async def _connection(self, line: tuple[Address, int]) -> Connection:
        task = self._lines.get(line)
        if task is None or (task.done() and ((opened := _opened(task)) is None or opened.lost)):
            (host, port), _ = line
            opening = Connection.open(host, port, self._security, timeout=self._timeout)
            task = self._lines[line] = asyncio.create_task(opening, name=f"kafka {host}:{port}")
        return await asyncio.shield(task)

    def _forget(self, line: tuple[Address, int], connection: Connection) -> None:
        task = self._lines.get(line)
        if task is not None and _opened(task) is connection:
            del self._lines[line]
        connection.close()


def _opened(task: asyncio.Task[Connection]) -> Connection | None:
    """What the task has opened, if it has."""
    return task.result() if task.done() and not task.cancelled() and not task.exception() else None
