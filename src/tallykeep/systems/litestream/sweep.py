"""Reading every file of a replica, some at a time, so that damage is found before a restore meets it.

So many bytes an interval and no more. First come the files of the restore plan, then the others, then those read
long ago. Each state of an object is read once until then; what has been read is remembered over restarts, 20 bytes
an object. Large files are read in chunks, slowed down to the budget. For files of the plan that were read by an
earlier process, the page index alone is read again: it tells whether the plan has every page.

A file that vanishes or changes meanwhile is counted and left to the next listing. The listing itself is the remote
collector's: the sweep never lists, and takes one step after each listing, so that what is new is read at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import zstandard

from tallykeep.clock import Clock
from tallykeep.errors import NotFound, StoreError
from tallykeep.runtime.state import StateDirectory
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.coverage import read_pages
from tallykeep.systems.litestream.entries import entry_name
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.inventory import LtxFile
from tallykeep.systems.litestream.known import Identity, Known
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.verifying import Checked, verify
from tallykeep.threads import in_thread

CORRUPT_AGAIN = 3600.0  # seconds after which a corrupt file is read again: it may have been written anew in place
_VERSION = 1

_log = logging.getLogger(__name__)


class Sweep:
    """Verifies the files of one target. A Service."""

    def __init__(
        self,
        target: str,
        store: Store,
        findings: Findings,
        state: StateDirectory,
        clock: Clock,
        *,
        budget: int,
        interval: float,
        again: float,
        on_checked: Callable[[Checked], None] = lambda checked: None,
    ) -> None:
        """`budget` is bytes in each `interval` of seconds; `again` seconds after which a file is read again."""
        self.name = f"litestream_sweep:{target}"
        self.vanished = 0  # files that were gone when they were to be read
        self._target = target
        self._store = store
        self._findings = findings
        self._state = state
        self._clock = clock
        self._budget = budget
        self._interval = interval
        self._again = again
        self._on_checked = on_checked
        self._left = 0.0  # bytes; what is overdrawn is taken from the next interval
        self._read = 0  # files
        self._entry = entry_name("sweep", target)
        self._failing = False

    async def run(self) -> None:
        await self.load()
        while True:
            await self._findings.looked.wait()
            self._findings.looked.clear()
            try:
                await self.step()
                self._failing = False
            except StoreError as error:
                if not self._failing:
                    _log.warning("the sweep of %s waits: %s", self._target, error)
                self._failing = True

    async def step(self) -> None:
        """Read what one interval's budget allows. Raises: StoreError, with all that was found so far kept."""
        self._left = min(self._left, 0.0) + self._budget
        read = self._read
        try:
            await self._cover()
            known = self._findings.known()
            for file in () if known is None else await in_thread(self._queue, known):
                if self._left <= 0:
                    break
                await self._verify(file)
        finally:
            if read != self._read:
                await self._keep()

    async def _verify(self, file: LtxFile) -> None:
        checked = await verify(self._store, file, self._pace)
        if checked.vanished:
            self.vanished += 1
        else:
            self._read += 1
            self._findings.record(checked, self._clock.time())
            if checked.reason:
                _log.warning("%s: %s of %s is corrupt (%s)", self._target, file.key, self._store.name, checked.reason)
        self._on_checked(checked)

    async def _pace(self, size: int) -> None:
        """Wait until what is overdrawn has been earned, then count the bytes of one more chunk."""
        if self._left < 0:
            await self._clock.sleep(-self._left / self._budget * self._interval)
            self._left = 0.0
        self._left -= size

    async def _cover(self) -> None:
        """The pages of plan files that an earlier process has read."""
        findings = self._findings
        for key, file in findings.seen.planned.items() if findings.seen is not None else ():
            if key in findings.pages or key not in findings.read or key in findings.corrupt:
                continue
            try:
                pages = await read_pages(self._store, file)
            except NotFound:
                self.vanished += 1
            except LtxError:
                findings.read.pop(key)  # it is no longer what it was: read it all
            else:
                findings.pages[key] = pages

    def _queue(self, known: Known) -> list[LtxFile]:
        """Files to be read now, the most urgent first: of the plan, never read, read long ago."""
        now, files, read = self._clock.time(), known.listed.files, known.read
        unread = {key: file for key, file in (*known.listed.planned.items(), *files.items()) if key not in read}
        soon = min(CORRUPT_AGAIN, self._again)
        overdue = sorted(
            (moment, key)
            for key, moment in read.items()
            if now - moment > (soon if key in known.corrupt else self._again) and key in files
        )
        return [*unread.values(), *(files[key] for _, key in overdue)]

    async def load(self) -> None:
        """Remember what an earlier process has read; what is no longer listed goes with the next listing."""
        raw = await in_thread(self._state.read, self._entry)
        if raw is None:
            return
        try:
            kept = json.loads(zstandard.ZstdDecompressor().decompress(raw))
            if kept["version"] == _VERSION:
                self._findings.read |= {bytes.fromhex(key): float(when) for key, when in kept["read"].items()}
                self._findings.corrupt |= {bytes.fromhex(key): str(why) for key, why in kept["corrupt"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, zstandard.ZstdError):
            _log.warning("what was swept of %s cannot be read from the state directory: it is read again", self._target)

    async def _keep(self) -> None:
        try:
            await in_thread(self._write, dict(self._findings.read), dict(self._findings.corrupt))
        except StoreError as error:
            _log.warning("what was swept of %s is not remembered: %s", self._target, error)

    def _write(self, read: dict[Identity, float], corrupt: dict[Identity, str]) -> None:
        kept = {
            "version": _VERSION,
            "read": {key.hex(): int(when) for key, when in read.items()},
            "corrupt": {key.hex(): reason for key, reason in corrupt.items()},
        }
        packed = zstandard.ZstdCompressor(level=1).compress(json.dumps(kept).encode())
        self._state.write(self._entry, packed)
