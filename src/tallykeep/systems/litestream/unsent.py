"""Local LTX files of level 0 that the replica does not have yet, and whether each surely holds a commit.

Litestream writes a file here before it uploads it, so these are proof of commits that have left the WAL but not
the machine. Of a file the header is read, once, and the page where it is only one; names tell the rest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tallykeep.systems.litestream.bookkeeping import holds_one_counter
from tallykeep.systems.litestream.ltx.decoder import Decoder
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.wal import FRAME_HEADER_SIZE

_MOST = 5000  # files opened in one look; the rest is left to the next


class LocalFile(NamedTuple):
    """What a local file says."""

    header: Header
    holds_a_commit: bool  # surely one of the application, not just one of Litestream's own

    @property
    def salts(self) -> tuple[int, int]:
        """Of the WAL generation it was copied from."""
        return self.header.wal_salt1, self.header.wal_salt2

    @classmethod
    def read(cls, file: BinaryIO) -> LocalFile:
        """Read the header, and the page of a file that comes from a single frame of WAL. Raises: LtxError.

        Litestream adds at most one commit of one frame between two files, so more than one frame is proof. A single
        frame is, unless it looks like such a commit, or cannot be told as the file is a full copy.
        """
        data = file.read(HEADER_SIZE)
        header = Header.decode(data)
        frame = FRAME_HEADER_SIZE + header.page_size
        if header.wal_size != frame:
            return cls(header, header.wal_size > frame)
        decoder = Decoder()
        try:
            pages = list(decoder.feed(data + file.read(2 * frame)))
            decoder.finish()
        except LtxError:
            return cls(header, False)
        return cls(header, len(pages) == 1 and not holds_one_counter(pages[0][1]))


class LocalFiles:
    """The local folder of level 0, `.<database>-litestream/ltx/0`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tip = Txid(0)  # the newest TXID at the last look; 0 where there is no file
        self._known: dict[LtxName, LocalFile | None] = {}

    def look(self, after: int) -> Sequence[LocalFile]:
        """The files beyond TXID `after`, in order. Damaged and vanished ones are left out; no folder is no files.

        Raises: OSError where the folder cannot be read.
        """
        names = self._names()
        self.tip = names[-1].max if names else Txid(0)
        newer = [name for name in names if name.max > after]
        self._known = {name: self._known[name] for name in newer if name in self._known}
        unread = [name for name in newer if name not in self._known]
        self._known |= {name: self.read(name) for name in unread[:_MOST]}
        return [file for name in newer if (file := self._known.get(name)) is not None]

    def read(self, name: LtxName) -> LocalFile | None:
        """One file; None where it cannot be read."""
        try:
            with (self.folder / str(name)).open("rb", buffering=0) as file:
                return LocalFile.read(file)
        except (OSError, LtxError):
            return None

    def _names(self) -> list[LtxName]:
        found = []
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(ValueError):
                    found.append(LtxName.parse(entry.name))
        return sorted(found)
