"""The name of an LTX file: the first and the last TXID in it."""

from __future__ import annotations

import re
from typing import NamedTuple

from tallykeep.systems.litestream.ltx.txid import Txid

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx")


class LtxName(NamedTuple):
    """`<min>-<max>.ltx`. Says nothing of the level: that is the folder the file lies in."""

    min: Txid
    max: Txid

    @classmethod
    def parse(cls, text: str) -> LtxName:
        """Read a file name (no folder before it).

        Raises: ValueError naming the text, for temporary files (`.ltx.tmp`) too.
        """
        name = _NAME.fullmatch(text)
        if name is None:
            raise ValueError(f"{text!r} is not the name of an LTX file (<16 hex digits>-<16 hex digits>.ltx)")
        return cls(Txid(name[1], 16), Txid(name[2], 16))

    def __str__(self) -> str:
        return f"{self.min}-{self.max}.ltx"
