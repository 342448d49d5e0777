"""Zigzag varints of up to 64 bits, as Kafka writes the numbers inside records. Source: Apache Kafka, ByteUtils."""

from __future__ import annotations

_LONGEST = 10  # bytes of a 64-bit number


def put(out: bytearray, number: int) -> None:
    """Append `number`, a signed 64-bit one."""
    rest = (number << 1) ^ (number >> 63)
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)


def take(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The number at `position`, and where it ends. Raises: IndexError where it is cut, ValueError where it is none."""
    byte = data[position]
    if byte < 0x80:
        return byte >> 1 ^ -(byte & 1), position + 1
    rest, shift, start = byte & 0x7F, 7, position
    while True:
        position += 1
        byte = data[position]
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if position - start >= _LONGEST or rest >> 64:
        raise ValueError("a number has more than 64 bits")
    return rest >> 1 ^ -(rest & 1), position + 1
