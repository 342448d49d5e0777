"""Compaction levels: their numbers, names and folders.

Level 0 holds one LTX file a sync, 1 to 8 hold compactions, 9 full snapshots. S3 and OSS replicas name a level's
folder in hex ("0009"), everything else, the local folder included, in decimal under "ltx" ("ltx/9", or "9" where
the listing starts at the ltx folder itself).

Source: Litestream 0.5.17, replica clients' level paths; contract/README, label values.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SNAPSHOT = 9  # full databases, from TXID 1
COMPACTED = range(8, 0, -1)
RAW = 0

ALWAYS_SHOWN = (0, 1, 2, 3, 9)  # on the page even when empty
_NAMES = {0: "L0 (raw)", 1: "L1 (30s)", 2: "L2 (5min)", 3: "L3 (hourly)", 9: "L9 (snapshot)"}

_HEX = re.compile(r"[0-9a-f]{4}")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,2}")


def level_name(level: int) -> str:
    """The label `level_name` as the contract spells it."""
    return _NAMES.get(level, f"L{level} (unknown)")


class Place(NamedTuple):
    """Which database and level a folder belongs to, told by its own name alone."""

    database: str  # "" for the listing's own; else where another database starts
    level: int
    layout: str  # "s3" or "folder"


def place_of(folder: str) -> Place | None:
    """Read a folder path such as "0001", "ltx/9" or "other.db/ltx/0"; None if it is no level's folder."""
    above, _, last = folder.rpartition("/")
    if _HEX.fullmatch(last):
        return Place(above, int(last, 16), "s3")
    if not _DECIMAL.fullmatch(last):
        return None
    database = above.removesuffix("ltx").removesuffix("/") if above == "ltx" or above.endswith("/ltx") else above
    return Place(database, int(last), "folder")
