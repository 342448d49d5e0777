"""WAL for the restored server, out of this process.

PostgreSQL runs `fetch.sh` for each file that it wants. The script says so on a pipe and waits for the file, or for
word that there is none. So the server's user needs neither key nor credentials, no program is started for each
segment, and what a tier did not give is known as what it was: an end of WAL, damage, or silence. Recovery is ended at
once, not taken for complete, where a segment that is held cannot be read. The script ends with this process.

A few segments are fetched ahead. Memory: two segments; disk: 64 MiB, or two segments.
Source: PostgreSQL, src/backend/access/transam/xlogarchive.c: a restore_command that ends with a status above 125 ends
the server.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tallykeep.errors import NotFound, TallykeepError
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.lsn import Segment, history_bytes, history_timeline, is_segment_name
from tallykeep.systems.postgres.restoring.tiered_wal import TieredWal
from tallykeep.systems.postgres.throwaway.claim import Claim
from tallykeep.systems.postgres.throwaway.configuration import Source
from tallykeep.systems.postgres.throwaway.scratch import Scratch
from tallykeep.systems.postgres.throwaway.within import within

_AHEAD = 64 << 20  # bytes of segments on disk that were not asked for yet
_AT_ONCE = 2  # segments in memory
_LONGEST = 1 << 16  # bytes of a read from the pipe
_NAME = re.compile(r"[0-9A-F]{24}|[0-9A-F]{8}\.history")
_SCRIPT = """\
# Run by PostgreSQL as: sh fetch.sh NAME TARGET. Status 1: there is no such file; 255: recovery must not go on.
wal={folder} parent={pid}
rm -f "$wal/$1" "$wal/$1.missing"
echo "$1" 1<>"$wal/asked" || exit 255
while :; do
    if [ -e "$wal/$1" ]; then mv -f "$wal/$1" "$2" || exit 255; exit 0; fi
    if [ -e "$wal/$1.missing" ]; then exit 1; fi
    if [ -e "$wal/over" ]; then exit 255; fi
    kill -0 "$parent" 2>/dev/null || [ -d "/proc/$parent" ] || exit 255
    sleep 0.01
done
"""


class Feeder:
    """Serves WAL to one server, from `start` to `close`."""

    def __init__(
        self, wal: TieredWal, claim: Claim, scratch: Scratch, target: Mapping[str, str], advance: Callable[[int], None]
    ) -> None:
        """`target`: settings of where recovery ends; `advance` is told of bytes as they are served."""
        self.error: TallykeepError | OSError | None = None  # why it has ended the recovery
        self.served = 0  # segments
        self._wal = wal
        self._claim = claim
        self._scratch = scratch
        self._target = target
        self._advance = advance
        self._held = {held.segment for held in claim.segments}
        self._ahead: dict[Segment, asyncio.Task[Path | None]] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._pipe = -1
        self._task: asyncio.Task[None] | None = None

    @property
    def source(self) -> Source:
        """What PostgreSQL has to be told."""
        script = shlex.quote(str(self._script)).replace("%", "%%")
        claim = self._claim
        return Source(f'sh {script} "%f" "%p"', claim.history.timeline, claim.segment_size, self._target)

    async def start(self) -> None:
        """Begin to serve. Raises: OSError."""
        await in_thread(self._prepare)
        asyncio.get_running_loop().add_reader(self._pipe, self._hear)
        self._task = asyncio.create_task(self._serve(), name="wal-feeder")

    async def close(self) -> None:
        """Serve nothing more, and let a script that waits end. Idempotent."""
        if self._task is None:
            return
        asyncio.get_running_loop().remove_reader(self._pipe)
        tasks, self._task = [self._task, *self._ahead.values()], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        os.close(self._pipe)
        await in_thread(self._mark, "over")

    # --- within

    @property
    def _script(self) -> Path:
        return self._scratch.folder / "fetch.sh"

    def _prepare(self) -> None:
        folder = self._scratch.wal
        self._script.write_text(_SCRIPT.format(folder=shlex.quote(str(folder)), pid=os.getpid()))
        self._script.chmod(0o644)
        os.mkfifo(folder / "asked", 0o600)
        self._scratch.give(folder / "asked")
        self._pipe = os.open(folder / "asked", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            for name in os.read(self._pipe, _LONGEST).decode(errors="replace").split():
                self._asked.put_nowait(name)

    async def _serve(self) -> None:
        while True:
            name = await self._asked.get()
            try:
                served = bool(_NAME.fullmatch(name)) and await self._give(name)
                if not served:
                    await in_thread(self._mark, f"{name}.missing" if _NAME.fullmatch(name) else "over")
            except (TallykeepError, OSError) as error:
                self.error = error
                await in_thread(self._mark, "over")

    async def _give(self, name: str) -> bool:
        if not is_segment_name(name):
            return await self._give_history(name)
        segment = Segment.parse(name, self._claim.segment_size)
        path = await self._fetching(segment)
        self._fetch_ahead(segment)
        if path is None:
            return False
        await in_thread(os.rename, path, self._scratch.wal / name)
        self.served += 1
        self._advance(segment.size)
        return True

    async def _give_history(self, name: str) -> bool:
        timeline = history_timeline(name)
        try:
            text = await self._wal.history_text(timeline or 0)
        except NotFound:
            if timeline is not None and self._claim.history.knows(timeline) and timeline > 1:
                raise  # it was there before
            return False
        path = await in_thread(self._write, f"{name}.new", history_bytes(text))
        await in_thread(os.rename, path, self._scratch.wal / name)
        return True

    def _fetching(self, segment: Segment) -> asyncio.Task[Path | None]:
        task = self._ahead.pop(segment, None)
        return task or asyncio.create_task(self._fetch(segment))

    def _fetch_ahead(self, segment: Segment) -> None:
        for _ in range(max(1, _AHEAD // segment.size)):
            segment = segment.next()
            if segment in self._held and segment not in self._ahead:
                self._ahead[segment] = asyncio.create_task(self._fetch(segment))

    async def _fetch(self, segment: Segment) -> Path | None:
        """The segment on disk, whole: behind what is held there are zeros. None where nothing of it is held."""
        async with self._gate:
            try:
                data = await in_thread(within, await self._wal.read(segment), segment)
            except NotFound:
                if segment in self._held:
                    raise
                return None
            return await in_thread(self._write, f"{segment.name}.new", data, segment.size)

    def _write(self, name: str, data: bytes, size: int = 0) -> Path:
        path = self._scratch.wal / name
        with path.open("wb") as file:
            path.chmod(0o600)
            file.write(data)
            file.truncate(max(size, len(data)))
        self._scratch.give(path)
        return path

    def _mark(self, name: str) -> None:
        with suppress(OSError):
            (self._scratch.wal / name).touch()
