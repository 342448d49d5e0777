"""WAL of a segment that is not complete, in tier 2 as well: so an idle database is there to its last commit.

`<segment>.<bytes>.part` is a block file of the WAL from the segment's start, without an end block, which is how it
tells that it is no whole segment. The older one goes when the newer is there, and both when the segment is whole.
Memory: one segment, and its blocks.
"""

from __future__ import annotations

import secrets

from tallykeep.errors import Conflict, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.tracing import Value, tracer
from tallykeep.systems.postgres import blocks
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.lsn import LSN, Segment
from tallykeep.systems.postgres.offload.standing import Standing
from tallykeep.systems.postgres.offload.uploading import put_histories
from tallykeep.systems.postgres.wal_source import part_key

_tracer = tracer("klio.consumer")


async def copy_partial(standing: Standing) -> int:
    """Copy what is new in segments that are not complete; bytes stored. Raises: StoreErrors; IntegrityError."""
    stored = 0
    for segment, end in await in_thread(_unfinished, standing.cluster.archive):
        if standing.ready and not standing.has(segment) and end > standing.remote.end(segment):  # type: ignore[union-attr]
            await put_histories(standing.cluster, standing.tier, standing.remote.timelines)  # type: ignore[union-attr]
            stored += await _copy(standing, segment)
    return stored


async def drop_parts(standing: Standing, segment: Segment) -> None:
    """Remove what was copied of a segment that is complete in tier 2. Raises: StoreErrors."""
    assert standing.remote is not None, "there was a comparison"
    for key in list(standing.remote.parts.get(segment, {}).values()):
        await standing.tier.root.delete(key)
    standing.remote.parts.pop(segment, None)


async def _copy(standing: Standing, segment: Segment) -> int:
    assert standing.remote is not None, "there was a comparison"
    try:
        wal = await in_thread(standing.cluster.archive.read, segment)
    except NotFound:
        return 0
    if len(wal) == segment.size:  # it became whole meanwhile, and goes as a whole
        return 0
    key, root = part_key(segment, len(wal)), standing.tier.root
    attributes: dict[str, Value] = {
        "cluster_name": standing.cluster.name,
        "wal_name": segment.name,
        "wal_bytes": len(wal),
    }
    with _tracer.span("upload_partial_wal", attributes):
        data = await in_thread(_block_file, standing.cluster.archive, segment, wal)
        try:
            await root.create(key, data)
        except Conflict:  # as many bytes of the same segment
            data = b""
    parts = standing.remote.parts[segment]
    older = {held: old for held, old in parts.items() if held < len(wal)}
    parts[len(wal)] = key
    for held, old in older.items():
        await root.delete(old)
        parts.pop(held, None)
    if standing.has(segment):  # it was copied whole while this went on
        await drop_parts(standing, segment)
    return len(data)


def _unfinished(archive: Archive) -> list[tuple[Segment, LSN]]:
    """Segments that are not complete, and how far they reach. Blocks."""
    return [(stored.segment, archive.extent(stored)) for stored in archive.segments() if not stored.complete]


def _block_file(archive: Archive, segment: Segment, wal: bytes) -> bytes:
    """A block file of the beginning of a segment. Blocks."""
    identity = archive.identity
    assert identity is not None, "there is WAL"
    header = blocks.Header(
        archive.cipher is not None, segment, segment.start, identity.system_id, secrets.token_bytes(16)
    )
    encoder = blocks.Encoder(header, archive.cipher)
    found = [encoder.block(segment.start + at, wal[at : at + blocks.BLOCK]) for at in range(0, len(wal), blocks.BLOCK)]
    return encoder.header + b"".join(found)
