"""One number for what a run may hold in memory: answers on their way and segments that are not stored yet.

Who is about to ask a broker reserves room for the answer and for its copy in segments first. Where there is none,
the largest open segment is closed early, which frees it once it is stored; so many partitions make segments smaller
and never the process larger. Not reserved, and added when it is there, is what a single batch exceeds the request by
(with batches larger than `fetch_bytes` a lane may have two of them in an answer, and two copies, beyond the number),
what is known of the batches of an answer, and the chunks of segments that are being packed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Budget:
    """Bytes that are spoken for. For one event loop."""

    def __init__(self, limit: int, squeeze: Callable[[int], None]) -> None:
        """`squeeze` is told how many bytes are missing, and sees to it that some come back."""
        self.used = 0
        self.most = 0  # that `used` ever was
        self._limit = limit
        self._squeeze = squeeze
        self._freed = asyncio.Event()

    async def reserve(self, size: int) -> None:
        """Return when there is room for `size`, and take it; at once where nothing is held and nothing can be freed."""
        while self.used + size > self._limit and self.used:
            self._freed.clear()
            self._squeeze(self.used + size - self._limit)
            await self._freed.wait()
        self.add(size)

    def add(self, size: int) -> None:
        """Take room without asking: what is there is there."""
        self.used += size
        self.most = max(self.most, self.used)

    def release(self, size: int) -> None:
        """Give room back."""
        self.used -= size
        assert self.used >= 0, "more was given back than taken"
        self._freed.set()
