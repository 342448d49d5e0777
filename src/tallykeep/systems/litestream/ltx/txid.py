"""The TXID: the number of one sync of a database, as it stands in names and headers."""

from __future__ import annotations

import re

_HEX = re.compile("[0-9a-f]{16}")


class Txid(int):
    """A transaction id, printed as 16 lower-case hex digits. The first one of a database is 1."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Txid:
        """The TXID that 16 lower-case hex digits stand for.

        Raises: ValueError naming the text.
        """
        if not _HEX.fullmatch(text):
            raise ValueError(f"{text!r} is not a TXID (16 lower-case hex digits)")
        return cls(text, 16)

    def __str__(self) -> str:
        return f"{int(self):016x}"

    def __repr__(self) -> str:
        return f"Txid({self})"
