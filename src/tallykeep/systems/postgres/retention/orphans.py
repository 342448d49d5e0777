"""Objects that no record of a repository names: what a writer that died has left, up to a GiB where there is a key.

They are found by a listing, which proves nothing, so they go slowly: only under names of our own, only when they were
seen by a run before this one and the grace period has passed since, and then as everything else goes, by a record
first. A writer elsewhere that has just stored an object of that name finds the record, or stops this one by its own.
What was seen when stands in `orphans-<tier>.json` in the cluster's folder; where that is lost it begins anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tallykeep.systems.postgres.part import write_file
from tallykeep.systems.postgres.repository.repository import Repository

_OURS = re.compile(
    r"packs/[0-9a-f]{2}/[0-9a-f]{32}(-[0-9a-f]{8})?|indexes/[0-9a-f]{32}(-[0-9a-f]{8})?|(backups|probe)/[0-9a-f]{32}"
)


class Orphans(NamedTuple):
    """What lies there beside the repository."""

    seen: Mapping[str, float] = {}  # when each was seen first, in Unix seconds
    due: Sequence[str] = ()  # those that go now
    bytes: int = 0  # of those


async def orphans(repository: Repository, before: Mapping[str, float], now: float, grace: float) -> Orphans:
    """`before`: what runs before this one have seen. Raises: StoreErrors."""
    named = repository.keys() | repository.unfinished
    seen, due, size = dict[str, float](), list[str](), 0
    async for page in repository.store.list():
        for each in page:
            if each.key in named or not _OURS.fullmatch(each.key):
                continue
            seen[each.key] = before.get(each.key, now)
            if each.key in before and now - before[each.key] >= grace:
                due.append(each.key)
                size += each.size
    return Orphans(seen, due, size)


def recall_seen(folder: Path, tier: str) -> dict[str, float]:
    """What was seen before. Blocks."""
    try:
        return {str(key): float(first) for key, first in json.loads(_path(folder, tier).read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note_seen(folder: Path, tier: str, found: Orphans) -> None:
    """Write down what is left of it. Blocks. Raises: Unavailable."""
    left = {key: first for key, first in found.seen.items() if key not in found.due}
    if left or _path(folder, tier).exists():
        write_file(_path(folder, tier), json.dumps(left).encode())


def _path(folder: Path, tier: str) -> Path:
    return folder / f"orphans-{tier}.json"
