"""The last 16 bytes of an LTX file: its checksums."""

from __future__ import annotations

import struct
from typing import NamedTuple

from tallykeep.systems.litestream.ltx.checksum import FLAG
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import Header

TRAILER_SIZE = 16

_LAYOUT = struct.Struct(">QQ")


class Trailer(NamedTuple):
    """The checksums. Source: superfly/ltx, ltx.go, Trailer."""

    post_apply_checksum: int  # rolling checksum of the database afterwards; zero where it is not kept
    file_checksum: int

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Trailer:
        """Read exactly 16 bytes; nothing is checked."""
        return cls(*_LAYOUT.unpack(data))

    def check_form(self, header: Header) -> None:
        """A rolling checksum stands where it is kept, and nowhere else. Raises: LtxError (checksum)."""
        value = self.post_apply_checksum
        if header.tracks_checksum and not value & FLAG:
            raise LtxError("checksum", f"the post-apply checksum {value:016x} is none, though the header announces one")
        if not header.tracks_checksum and value:
            raise LtxError("checksum", f"a post-apply checksum {value:016x}, though the header says there is none")
