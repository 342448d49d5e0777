"""Work on a schedule: base backups, verification, drills, retention, each when cron says so.

What was missed while nothing ran is caught up once, when the last time lies more than a period back. What failed is
tried again after a while and not only at its next time. Work of one kind takes turns, whichever cluster it is for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.systems.postgres.cron import following

RETRY = 900.0  # seconds after which work that failed is tried again, unless its next time comes before that
_LOOK = 30.0  # seconds between two looks at the clock, which may be set


class Schedule:
    """Service. Does one thing for one cluster whenever it is due."""

    def __init__(
        self, name: str, expression: str, zone: str, clock: Clock, *, work: Callable[[], Awaitable[object]],
        last: Callable[[], Awaitable[float | None]], turn: asyncio.Lock, at_once: bool = False,
        urgent: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:  # fmt: skip
        """`last` tells when it was last done, in Unix time; None: never. Then it is due `at_once`, or in its time.

        `urgent` tells whether it cannot wait for its time; it is asked now and then.
        """
        self.name = name
        self._expression = expression
        self._zone = zone
        self._clock = clock
        self._work = work
        self._last = last
        self._turn = turn
        self._at_once = at_once
        self._urgent = urgent
        self._log = logging.getLogger(__name__)

    async def run(self) -> None:
        """Until cancelled."""
        due, failed = await self._first(), float("-inf")
        while True:
            await self._until(due, failed + RETRY)
            async with self._turn:
                done = await self._attempt()
            now = self._clock.time()
            due, failed = self._following(now), float("-inf")
            if not done:
                due, failed = min(due, now + RETRY), now

    async def _until(self, due: float, patient: float) -> None:
        """Until it is due, or cannot wait for that; before `patient` it has to."""
        while (left := due - self._clock.time()) > 0:
            await self._clock.sleep(min(left, _LOOK))
            now = self._clock.time()
            if self._urgent is not None and now >= patient and await self._urgent():
                return
            due = min(due, self._following(now - _LOOK))  # sooner where the clock was set back

    async def _first(self) -> float:
        """When it is due for the first time: in the past where it was missed."""
        now, last = self._clock.time(), await self._last()
        if last is None and self._at_once:
            return now
        return self._following(now if last is None else min(last, now))

    def _following(self, moment: float) -> float:
        return following(self._expression, moment, self._zone)

    async def _attempt(self) -> bool:
        """Whether it was done."""
        try:
            await self._work()
        except TallykeepError as error:
            self._log.error("%s failed: %s", self.name, error, extra={"service": self.name, "code": error.code})
            return False
        return True
