"""WAL to tier 2: complete segments, history files, and whose WAL it is. Memory: one segment, thrice where it is there.

A segment goes as it lies in tier 1, the same bytes under the same key. It is looked at before it goes: what is damaged
in tier 1 does not spread.
"""

from __future__ import annotations

import json
from functools import partial

from tallykeep.errors import Conflict, IntegrityError, NotFound, Refused
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store
from tallykeep.systems.postgres import blocks
from tallykeep.systems.postgres.archive import IDENTITY, Archive
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.lsn import Segment, history_name
from tallykeep.systems.postgres.offload.storing import keep
from tallykeep.systems.postgres.wal_source import decoded, history_key, segment_key


async def put_segment(cluster: Cluster, tier: Tier, segment: Segment) -> tuple[int, bool]:
    """See that tier 2 holds a complete segment: bytes of it, and whether they are those of tier 1.

    Raises: NotFound where tier 1 does not hold it (any more); IntegrityError where it is damaged in tier 1, or other
    WAL lies in tier 2; StoreErrors.
    """
    data, key = await in_thread(_whole, cluster.archive, segment), segment_key(segment)
    meaning = partial(decoded, segment=segment, cipher=cluster.cipher, name=f"{tier.root.name}/{key}")
    return len(data), await keep(tier.root, key, data, meaning)


async def put_history(cluster: Cluster, tier: Tier, timeline: int) -> None:
    """See that tier 2 holds a history file. Raises: as put_segment does."""
    name, key = history_name(timeline), history_key(timeline)
    path = cluster.archive.wal / name
    try:
        data = await in_thread(path.read_bytes)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there any more.") from None
    await keep(tier.root, key, data, partial(_text, cipher=cluster.cipher, name=name, shown=f"{tier.root.name}/{key}"))


async def put_histories(cluster: Cluster, tier: Tier, held: set[int]) -> None:
    """See that tier 2 holds every history file, before anything of such a timeline, which nobody can place without.

    `held`: timelines whose history is known to be there; it is kept up. Raises: as put_segment does.
    """
    for timeline in await in_thread(cluster.archive.timelines):
        if timeline not in held:
            await put_history(cluster, tier, timeline)
            held.add(timeline)


async def put_identity(cluster: Cluster, tier: Tier) -> bool:
    """See that tier 2 says whose WAL it holds; False where tier 1 does not know yet.

    Raises: Refused where it is another system's; IntegrityError; StoreErrors.
    """
    ours = await cluster.tier1.wal.identity()
    if ours is None:
        return False
    theirs = await tier.wal.identity()
    if theirs is None:
        said = {"system_id": str(ours.system_id), "segment_size": ours.segment_size}
        await _create(tier.root, IDENTITY, json.dumps(said).encode())
        theirs = await tier.wal.identity()
    if theirs != ours:
        raise Refused(
            f"{tier.root.name}: holds WAL of the system {theirs and theirs.system_id}; {cluster.name} is "
            f"{ours.system_id}. It is another cluster: give it a name, or a prefix in tier 2, of its own."
        )
    return True


async def _create(store: Store, key: str, data: bytes) -> None:
    try:
        await store.create(key, data)
    except Conflict:  # another process was faster; what lies there is read next
        return


def _whole(archive: Archive, segment: Segment) -> bytes:
    """A complete segment as it lies in tier 1, its checksums proved. Blocks."""
    path = archive.folder_of(segment) / segment.name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{archive.folder}: holds no complete WAL segment {segment.name}.") from None
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}. Check the disk.") from None
    found = blocks.scan(data, str(path))
    if found.problem or not found.complete or found.header.segment != segment:
        raise IntegrityError(
            f"{found.problem or f'{path}: is not the segment that its name says, or is cut'}. It is not copied to tier "
            "2. Bring it back from a copy, or take a base backup, and remove it."
        )
    return data


def _text(data: bytes, cipher: Cipher | None, name: str, shown: str) -> bytes:
    return cipher.open(data, name.encode(), shown) if cipher else data
