"""global/pg_control: how a cluster was built, and whether its pages have checksums.

Only what is needed to read pages; not the checkpoint. The fields in front of these have kept their sizes from 14 to
18; a constant number among them and the CRC-32C of all prove that they lie where they are looked for.
Source: PostgreSQL, src/include/catalog/pg_control.h (ControlFileData).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tallykeep.errors import IntegrityError
from tallykeep.systems.postgres.checksum import crc32c

PATH = "global/pg_control"
_SYSTEM = struct.Struct("=Q")  # at 0
_BUILD = struct.Struct("=dII24x4xI")  # at 208: floatFormat, blcksz, relseg_size, ..., data_checksum_version
_BUILD_AT = 208
_CRC = struct.Struct("=I")
_CRC_AT = (288, 292)  # 14 to 17; 18, which has one flag more
_CONSTANT = 1234567.0


class Control(NamedTuple):
    """What the control file says."""

    system_id: int
    page: int  # bytes of a page
    segment: int  # pages in a file of a relation, before the next begins
    checksums: bool  # whether pages have them

    @classmethod
    def parse(cls, data: bytes, name: str) -> Control:
        """Of the file's bytes; `name` is for messages. Raises: IntegrityError."""
        if not any(_sealed(data, at) for at in _CRC_AT):
            raise IntegrityError(f"{name}: its CRC-32C does not match: it is damaged, or of no PostgreSQL 14 to 18.")
        constant, page, segment, checksums = _BUILD.unpack_from(data, _BUILD_AT)
        if constant != _CONSTANT:
            raise IntegrityError(f"{name}: is laid out otherwise than PostgreSQL 14 to 18 do; nothing can be read.")
        return cls(_SYSTEM.unpack_from(data)[0], page, segment, checksums != 0)


def _sealed(data: bytes, at: int) -> bool:
    return len(data) >= at + _CRC.size and crc32c(data[:at]) == _CRC.unpack_from(data, at)[0]
