"""WAL as one tier holds it, read the same way whichever tier it is: for restores, verification, drills and figures.

LocalWal looks at an archive on disk (tier 1), RemoteWal at a store (tier 2), where the same block files lie under the
same keys. A segment that was not complete when it was copied to tier 2 lies there as `<segment>.<number>.part`, the
number being how many bytes of it that file holds, so the greatest is the newest. Memory: one segment for each read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from tallykeep.errors import IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store
from tallykeep.systems.postgres import blocks
from tallykeep.systems.postgres.archive import IDENTITY, WAL_FOLDER, Archive, Identity, history_text
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.coverage import Held, joined
from tallykeep.systems.postgres.lsn import LSN, History, Segment, history_name, history_timeline, is_segment_name

_PART = re.compile(r"([0-9A-F]{24})\.(\d{4,})\.part")
_FOLDER = f"{WAL_FOLDER}/"
_TRIES = 5  # at a part that may be replaced while it is looked for


class HeldSegment(NamedTuple):
    """A segment, or its beginning, in a tier."""

    segment: Segment
    end: LSN  # the first position of it that is not held
    size: int  # bytes as stored

    @property
    def complete(self) -> bool:
        return self.end == self.segment.end


class Histories(Protocol):
    """Who has history files."""

    async def history_text(self, timeline: int) -> str:
        """A history file as PostgreSQL wrote it. Raises: NotFound; IntegrityError; StoreErrors."""
        ...


class WalSource(Histories, Protocol):
    """WAL of one cluster in one tier. Looked at anew with each call."""

    tier: str  # "1" or "2"
    name: str  # for messages

    async def identity(self) -> Identity | None:
        """Whose WAL it is; None before the first. Raises: IntegrityError; StoreErrors."""
        ...

    async def segments(self) -> list[HeldSegment]:
        """What is held, by timeline and position. Raises: StoreErrors."""
        ...

    async def read(self, segment: Segment) -> bytes:
        """The WAL of a segment from its beginning: all of it, or as far as it is held without a hole.

        Raises: NotFound; IntegrityError; StoreErrors.
        """
        ...

    async def timelines(self) -> list[int]:
        """Timelines whose history file is held."""
        ...


class LocalWal:
    """Tier 1."""

    tier = "1"

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.name = str(archive.folder)

    async def identity(self) -> Identity | None:
        return await in_thread(lambda: self.archive.identity)

    async def segments(self) -> list[HeldSegment]:
        return await in_thread(self._segments)

    async def read(self, segment: Segment) -> bytes:
        return await in_thread(self.archive.read, segment)

    async def timelines(self) -> list[int]:
        return await in_thread(self.archive.timelines)

    async def history_text(self, timeline: int) -> str:
        return await in_thread(self.archive.history_text, timeline)

    def _segments(self) -> list[HeldSegment]:
        archive = self.archive
        return [HeldSegment(stored.segment, archive.extent(stored), stored.size) for stored in archive.segments()]


class RemoteWal:
    """Tier 2."""

    tier = "2"

    def __init__(self, store: Store, cipher: Cipher | None) -> None:
        """`store` is bound to the cluster's prefix: it holds identity.json and wal/."""
        self.store = store
        self.name = store.name
        self._cipher = cipher

    async def identity(self) -> Identity | None:
        try:
            found = json.loads(await self.store.read(IDENTITY))
            return Identity(int(found["system_id"]), int(found["segment_size"]))
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{self.name}/{IDENTITY}: not as it was written; bring it back from a copy.") from None

    async def segments(self) -> list[HeldSegment]:
        identity = await self.identity()
        if identity is None:
            return []
        found: dict[Segment, HeldSegment] = {}
        async for page in self.store.list(_FOLDER):
            for each in page:
                held = _held(each.key.rpartition("/")[2], each.size, identity.segment_size)
                if (
                    held is not None
                    and lies_right(each.key, held.segment)
                    and (held.segment not in found or found[held.segment].end < held.end)
                ):
                    found[held.segment] = held
        return [found[segment] for segment in sorted(found)]

    async def read(self, segment: Segment) -> bytes:
        try:
            return await self._read(segment_key(segment), segment)
        except NotFound:
            return await self._read_part(segment)

    async def _read_part(self, segment: Segment) -> bytes:
        """As much of a segment as its newest part has; all of it where it has become complete meanwhile.

        A part is removed once there is a longer one, or the whole: so where one was, something is.
        """
        for _ in range(_TRIES):
            parts = await self.parts(segment)
            try:
                return await self._read(parts[-1] if parts else segment_key(segment), segment)
            except NotFound:
                if not parts:
                    break
        raise NotFound(f"{self.name}: holds nothing of the WAL segment {segment.name}.")

    async def parts(self, segment: Segment) -> list[str]:
        """Keys of what was copied of a segment before it was complete, the newest last."""
        found = [each.key async for page in self.store.list(f"{segment_key(segment)}.") for each in page]
        return sorted((key for key in found if _PART.fullmatch(key.rpartition("/")[2])), key=_bytes_of)

    async def timelines(self) -> list[int]:
        found: list[int] = []
        async for page in self.store.list(_FOLDER):
            for each in page:
                timeline = history_timeline(each.key.removeprefix(_FOLDER))
                if timeline is not None:
                    found.append(timeline)
        return sorted(found)

    async def history_text(self, timeline: int) -> str:
        key = history_key(timeline)
        try:
            data = await self.store.read(key)
        except NotFound:
            raise NotFound(f"{self.name}: holds no history of timeline {timeline}.") from None
        name = history_name(timeline)
        return history_text(data, name, self._cipher, f"{self.name}/{key}")

    async def _read(self, key: str, segment: Segment) -> bytes:
        data, name = await self.store.read(key), f"{self.name}/{key}"
        return await in_thread(decoded, data, segment, self._cipher, name)


def decoded(data: bytes, segment: Segment, cipher: Cipher | None, name: str) -> bytes:
    """The WAL of a block file that begins where its segment does; a whole one by its name must be whole.

    Blocks. Raises: IntegrityError.
    """
    found = blocks.scan(data, name)
    complete = is_segment_name(name.rpartition("/")[2])
    if found.problem or (complete and not found.complete) or found.header.segment != segment:
        raise IntegrityError(
            f"{found.problem or f'{name}: is not the segment that its name says, or is cut'}; bring it back from "
            "another tier, or from a copy."
        )
    if found.header.start != segment.start:
        raise IntegrityError(f"{name}: begins inside its segment.")
    return b"".join(blocks.contents(found, cipher, name))


def segment_key(segment: Segment) -> str:
    """What a complete segment is called in tier 2."""
    return f"{_FOLDER}{segment.name[:16]}/{segment.name}"


def part_key(segment: Segment, held: int) -> str:
    """What the first `held` bytes of a segment are called in tier 2."""
    return f"{segment_key(segment)}.{held:010d}.part"


def lies_right(key: str, segment: Segment) -> bool:
    """Whether an object that is called as a segment, or a part of it, lies where that is looked for."""
    return key.startswith(segment_key(segment))


def history_key(timeline: int) -> str:
    """What a history file is called in tier 2."""
    return f"{_FOLDER}{history_name(timeline)}"


async def history_of(source: Histories, timeline: int) -> History:
    """How a timeline came to be; the first has no file. Raises: as WalSource.history_text does; Malformed."""
    return History(1) if timeline == 1 else History.parse(timeline, await source.history_text(timeline))


def stretches(segments: Iterable[HeldSegment]) -> list[Held]:
    """What is held without a hole, by timeline and position; `segments` in their order."""
    return joined((segment, end) for segment, end, _ in segments)


def _held(name: str, size: int, segment_size: int) -> HeldSegment | None:
    if is_segment_name(name):
        segment = Segment.parse(name, segment_size)
        return HeldSegment(segment, segment.end, size)
    part = _PART.fullmatch(name)
    if part is None:
        return None
    segment = Segment.parse(part[1], segment_size)
    return HeldSegment(segment, LSN(segment.start + int(part[2])), size)


def _bytes_of(key: str) -> int:
    return int(key.rsplit(".", 2)[1])
