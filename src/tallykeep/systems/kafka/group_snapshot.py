"""Offsets of groups as they are at a moment, saved by themselves: without a backup run, and whenever one wants.

A snapshot of a cluster without topics, and a line with its hash, since it stands in no manifest.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.storage.digest import digest
from tallykeep.systems.kafka.cluster import Cluster, Group
from tallykeep.systems.kafka.selecting import is_pattern, matches
from tallykeep.systems.kafka.snapshot import Snapshot, SnapshotGroup, SnapshotOffset

FOLDER = "group-snapshots/"
_AT_ONCE = 16  # groups whose offsets are asked for at a time


async def group_snapshot(cluster: Cluster, clock: Clock, wanted: Sequence[str] = ()) -> Snapshot:
    """What the groups that `wanted` (names, globs, ~regexes; none: all) means have committed now.

    Raises: RestoreError where one that is named is not there; SourceErrors.
    """
    groups = await cluster.groups()
    known = {group.name for group in groups}
    if missing := [name for name in wanted if not is_pattern(name) and name not in known]:
        raise RestoreError(f"{cluster.name}: there is no group {', '.join(map(repr, missing))}.")
    meant, several = matches(wanted or ("*",)), asyncio.Semaphore(_AT_ONCE)

    async def one(group: Group) -> SnapshotGroup:
        async with several:
            offsets = await cluster.group_offsets(group.name)
        saved = [SnapshotOffset(*place, found.offset, found.metadata, found.leader_epoch)
                 for place, found in sorted(offsets.items())]  # fmt: skip
        return SnapshotGroup(group.name, group.state, group.protocol_type, saved)

    found = await asyncio.gather(*(one(group) for group in sorted(groups) if meant(group.name)))
    return Snapshot(secrets.token_hex(16), cluster.cluster_id, cluster.name, clock.time(), "groups", [], found)


def encode(snapshot: Snapshot) -> bytes:
    """The file that it is kept in."""
    line = snapshot.encode()
    return line + json.dumps({"hash": digest(line)}).encode() + b"\n"


def decode(data: bytes, name: str) -> Snapshot:
    """The snapshot in a file; `name` is for messages. Raises: IntegrityError."""
    line, _, closing = data.partition(b"\n")
    line += b"\n"
    if closing != json.dumps({"hash": digest(line)}).encode() + b"\n":
        raise IntegrityError(f"{name}: not a snapshot of groups, or not as it was written: its hash does not match.")
    return Snapshot.decode(line, name)
