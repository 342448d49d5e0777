"""Time, as a parameter: production reads the machine's clocks, tests turn the hands themselves."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What code that waits or dates something asks for the time."""

    def time(self) -> float:
        """Unix seconds: what stands on a page. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start: what durations and deadlines are reckoned in. Never steps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; at once for zero or less."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # 40 ms that `tallykeep --help` need not spend

        await asyncio.sleep(max(0.0, seconds))
