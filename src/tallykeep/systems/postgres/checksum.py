"""CRC-32C (Castagnoli), the checksum of WAL records, of backup manifests and of our own formats.

Check value of "123456789": e3069283. Source: PostgreSQL, src/port/pg_crc32c_sb8.c; RFC 3720, appendix B.4; zlib's
crc32_combine for what is done to the remainders of pieces.
"""

from __future__ import annotations

from functools import lru_cache

from fastcrc import crc32

crc32c = crc32.iscsi  # crc32c(data, previous=0): 16,000 MB/s from 1 MiB up; memoryviews are not copied
_POLYNOMIAL = 0x82F63B78  # reflected: the highest bit is x^0
_ONE, _X8 = 1 << 31, 1 << 23


def combined(first: int, second: int, length: int) -> int:
    """The CRC-32C of two pieces that follow one another, of which the second has `length` bytes."""
    return _product(_shift(length), first) ^ second


@lru_cache(1024)
def _shift(length: int) -> int:
    """x^(8 * length), modulo the polynomial."""
    found, power = _ONE, _X8
    while length:
        if length & 1:
            found = _product(power, found)
        power = _product(power, power)
        length >>= 1
    return found


def _product(left: int, right: int) -> int:
    """Of two polynomials over GF(2), modulo the polynomial. 3 microseconds."""
    found = 0
    while left:
        if left & _ONE:
            found ^= right
        left = left << 1 & 0xFFFFFFFF
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return found
