"""Why bytes are not a sound LTX file: one error, a few stable reasons."""

from __future__ import annotations

from typing import Literal

from tallykeep.errors import IntegrityError

Reason = Literal[
    "too_small",  # fewer bytes than the smallest sound file has
    "bad_magic",  # does not start with LTX1
    "bad_header",  # a header no writer of the format produces
    "truncated",  # ends before its trailer
    "checksum",  # contradicts one of its own checksums
    "header_name_mismatch",  # sound, but under the name of another file
    "bad_page",  # a page frame no writer of the format produces
    "bad_index",  # checksum good, but the index does not list the pages that are there
    "trailing_bytes",  # sound up to its trailer, and then there is more
]


class LtxError(IntegrityError):
    """Bytes that are not a sound LTX file. `reason` is a stable word: metric label and anchor in the docs."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
