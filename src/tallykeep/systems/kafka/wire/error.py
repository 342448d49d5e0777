"""Why bytes are not sound record batches: one error, a few stable reasons."""

from __future__ import annotations

from typing import Literal

from tallykeep.errors import IntegrityError

Reason = Literal[
    "truncated",  # ends before the batch does
    "old_format",  # a message set of format 0 or 1, as brokers before 0.11 wrote them
    "bad_magic",  # no format there is
    "bad_header",  # a header no producer or broker writes
    "checksum",  # the CRC-32C does not match
    "bad_codec",  # compressed by nothing there is
    "bad_payload",  # does not decompress
    "bad_records",  # decompressed, but the records contradict themselves or the header
]


class BatchError(IntegrityError):
    """Bytes that are not a sound record batch. `reason` is a stable word."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
