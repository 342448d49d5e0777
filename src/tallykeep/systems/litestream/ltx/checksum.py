"""The two checksums of an LTX file, both CRC-64/GO-ISO with the topmost bit set.

- File checksum: the header; every page's frame header and its *decompressed* page; the empty frame header; the
  index; the post-apply checksum. It vouches for everything but itself.
- Rolling checksum: the XOR over a database's pages of CRC(page number, page). Litestream does not keep it
  (the NoChecksum flag); LiteFS does.

Source: superfly/ltx, checksum.go. CRC check value of "123456789": b90956c775a41001.
"""

from __future__ import annotations

import struct

from fastcrc import crc64

FLAG = 1 << 63  # set in every checksum, so that none is zero: zero means "no checksum"

crc = crc64.go_iso  # crc(data, previous=0): chains, 10,000 MB/s

_NUMBER = struct.Struct(">I")


def page_checksum(number: int, page: bytes) -> int:
    """The share of one page in the rolling checksum of its database."""
    return FLAG | crc(page, crc(_NUMBER.pack(number)))
