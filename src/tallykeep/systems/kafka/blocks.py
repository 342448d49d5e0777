"""Bytes that come bit by bit and are kept in blocks, to be written and hashed block by block: they are never joined.

Small ones are put together up to about a MiB, since each block costs a call of the hash and a place in a write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_SMALL = 256 << 10  # bytes: what is larger is a block as it is
_TOGETHER = 1 << 20  # bytes: what small ones come to before they are one


class Blocks:
    """Bytes in the order in which they were added."""

    def __init__(self) -> None:
        self.size = 0
        self._blocks: list[bytes] = []
        self._small: list[bytes] = []
        self._small_size = 0

    def add(self, data: bytes) -> None:
        """Append `data`."""
        self.size += len(data)
        if len(data) >= _SMALL:
            self._settle()
            self._blocks.append(data)
            return
        self._small.append(data)
        self._small_size += len(data)
        if self._small_size >= _TOGETHER:
            self._settle()

    def read(self) -> Callable[[int], Sequence[memoryview]]:
        """Goes through the bytes: called with a size it returns views of that many of them, from where it was."""
        self._settle()
        views = iter([memoryview(block) for block in self._blocks])
        rest = memoryview(b"")

        def following(size: int) -> Sequence[memoryview]:
            nonlocal rest
            found = []
            while size:
                rest = rest or next(views)
                found.append(rest[:size])
                rest, size = rest[size:], size - len(found[-1])
            return found

        return following

    def _settle(self) -> None:
        """Make what is small one block."""
        if self._small:
            self._blocks.append(b"".join(self._small))
            self._small, self._small_size = [], 0
