"""A clock whose hands tests turn."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Collection
from threading import Thread

START = 1_700_000_000.0


class FakeClock:
    """Time stands still until `advance`. Sleepers wake in the order of their deadlines, each at its own moment."""

    def __init__(self, start: float = START) -> None:
        self._unix = start
        self._now = 1000.0  # unlike any Unix time, so that a mixture of the two clocks shows
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self._unix

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking every sleeper on the way and letting what it wakes run."""
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, future = heapq.heappop(self._sleepers)
            self._pass(deadline)
            if not future.done():
                future.set_result(None)
                await settle()
        self._pass(end)
        await settle()

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, as an administrator or NTP does."""
        self._unix += seconds

    def _pass(self, moment: float) -> None:
        self._unix += moment - self._now
        self._now = moment


async def at_rest(threads: Collection[Thread]) -> None:
    """Let every task run until none of `threads`, which `threads_noted` gives, works for one; however long it takes."""
    await settle()
    while any(thread.is_alive() for thread in tuple(threads)):
        await asyncio.sleep(0.001)
        await settle()


async def settle(rounds: int = 50) -> None:
    """Let every task run until it waits for something outside the loop's hands."""
    for _ in range(rounds):
        await asyncio.sleep(0)
