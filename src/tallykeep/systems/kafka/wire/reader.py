"""Goes through a response of the classic encoding, field by field, without copying."""

from __future__ import annotations

import struct

_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")


class Reader:
    """A place in a response. What is not there raises ValueError or struct.error."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """The fields that come next."""
        values = layout.unpack_from(self._data, self._position)
        self._position += layout.size
        return values

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return len(self._data) - self._position

    def length(self) -> int:
        """A count of what follows; null counts as none."""
        (count,) = self.unpack(_INT)
        if count > self.left:
            raise ValueError(f"{count} are said to follow where {self.left} bytes do")
        return max(count, 0)

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        start, self._position = self._position, self._position + count
        return self._data[start : self._position]

    def string(self) -> str:
        """A text with its length before it."""
        (count,) = self.unpack(_SHORT)
        if not 0 <= count <= self.left:
            raise ValueError(f"a name of {count} bytes")
        return str(self.take(count), "utf-8")

    def words(self) -> str:
        """A text for people, with its length before it; null counts as empty."""
        (count,) = self.unpack(_SHORT)
        if count > self.left:
            raise ValueError("a text goes beyond the end")
        return str(self.take(max(count, 0)), "utf-8", "replace")


def string(text: str) -> bytes:
    """A text as requests have it."""
    data = text.encode()
    return _SHORT.pack(len(data)) + data
