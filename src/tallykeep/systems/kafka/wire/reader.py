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

    def length(self) -> int:
        """A count of what follows; null counts as none."""
        (count,) = self.unpack(_INT)
        if count > len(self._data) - self._position:
            raise ValueError(f"{count} are said to follow where {len(self._data) - self._position} bytes do")
        return max(count, 0)

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        start, self._position = self._position, self._position + count
        return self._data[start : self._position]

    def string(self) -> str:
        """A text with its length before it."""
        (count,) = self.unpack(_SHORT)
        if not 0 <= count <= len(self._data) - self._position:
            raise ValueError(f"a name of {count} bytes")
        return str(self.take(count), "utf-8")


def string(text: str) -> bytes:
    """A text as requests have it."""
    data = text.encode()
    return _SHORT.pack(len(data)) + data
