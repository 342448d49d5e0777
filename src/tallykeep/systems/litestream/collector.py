"""The collectors that judge: the verdict on a replica, and what would be lost if the database vanished now.

They wait for a listing that is going on, never for longer than it may take, and are apart from each other: a
database on a hung disk must not hold back the verdict. A replica that cannot be listed is a verdict too: unknown,
with the reason.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

from tallykeep.clock import Clock
from tallykeep.errors import Unreachable
from tallykeep.metrics import UNKNOWN, Sample
from tallykeep.systems.litestream import families
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.known import Known
from tallykeep.systems.litestream.levels import RAW, SNAPSHOT
from tallykeep.systems.litestream.listing import RemoteListing, Sight, raw_file
from tallykeep.systems.litestream.local_side import LocalFiles
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.plan import Plan, find_reach, make_plan
from tallykeep.systems.litestream.report import Reason, Report, Verdict, explained, ordered
from tallykeep.systems.litestream.rpo import Exposure, Meter
from tallykeep.systems.litestream.verdict import judge
from tallykeep.threads import in_thread

VERDICT_COLLECTOR = "litestream_verdict"
RPO_COLLECTOR = "litestream_rpo"

WAITING = 2.0  # seconds a judging collector has beyond those of what it waits for

_BEYOND = 1 << 63  # a TXID that no file has: only the newest name is asked for
REPLICA_UNKNOWN = "replica_unknown"  # the replica is not known: what never left the WAL is surely not on it

_log = logging.getLogger(__name__)


class VerdictCollector:
    """Judges the replica by the last listings of both sides and by what sweep and drill have found."""

    name = VERDICT_COLLECTOR

    def __init__(self, sight: Sight, remote: RemoteListing, clock: Clock, stale_after: float) -> None:
        self.target = sight.target.name
        self.interval = remote.interval
        self.timeout = remote.timeout + WAITING
        self._sight = sight
        self._remote = remote
        self._clock = clock
        self._stale_after = stale_after
        self._said: tuple[Verdict, tuple[Reason, ...]] | None = None

    def verdicts(self) -> Sequence[Sample]:
        return (families.VERDICT(UNKNOWN, target=self.target),)

    async def collect(self) -> AsyncIterator[Sample]:
        sight = self._sight
        assert sight.remote is not None and sight.report is not None
        with sight.report.reading():
            listed = await sight.remote.settled() is not None
            local = await sight.local.settled() if sight.local else None
            found = sight.findings.known() if listed else None
            report, samples = (None, ()) if found is None else await in_thread(self._judged, found, local)
            sight.report.saw(report)
        if report is None:
            yield families.VERDICT(UNKNOWN, target=self.target)
            yield families.REASON(1, target=self.target, reason=Reason.UNREACHABLE)
            return
        self._say(report)
        for sample in samples:
            yield sample

    def _say(self, report: Report) -> None:
        """Log a verdict that is not that of the last time, with what speaks against the replica."""
        if (report.verdict, report.reasons) == self._said:
            return
        self._said = (report.verdict, report.reasons)
        notes = report.notes if report.verdict is Verdict.UNKNOWN else ()
        sound = report.verdict is Verdict.RESTORABLE and not report.reasons
        text = "; ".join((f"the replica is {report.verdict}", *explained(report), *notes))
        _log.log(logging.INFO if sound else logging.WARNING, "%s: %s", self.target, text, extra={"target": self.target})

    def _judged(self, found: Known, local: Inventory | None) -> tuple[Report, Sequence[Sample]]:
        """The verdict and its figures, all from one listing."""
        inventory, plan = found.listed.inventory, found.listed.plan
        report = judge(self.target, inventory, found.evidence(), plan=plan)
        if local is not None and report.newest_txid and self._is_stale(local, report):
            report = replace(report, reasons=ordered({*report.reasons, Reason.STALE}))
        return report, tuple(self._samples(report, inventory, plan, local))

    def _is_stale(self, local: Inventory, report: Report) -> bool:
        """Whether the local side has had a TXID for too long that is in no file of the replica."""
        folder = self._sight.target.local
        assert folder is not None
        files = LocalFiles(folder / str(RAW), tuple(file.name for file in local.level(RAW)))
        since = files.waiting_since(report.newest_txid or Txid(0))
        return since is not None and self._clock.time() - since > self._stale_after

    def _samples(self, report: Report, inventory: Inventory, plan: Plan, local: Inventory | None) -> Iterator[Sample]:
        target = self.target
        yield families.VERDICT(str(report.verdict), target=target)
        for reason in Reason:
            yield families.REASON(reason in report.reasons, target=target, reason=reason)
        if report.restorable_txid is not None:
            yield families.RESTORABLE_TXID(report.restorable_txid, target=target)
        yield families.PLAN_FILES(report.plan_files, target=target)
        yield families.PLAN_BYTES(report.plan_bytes, target=target)
        yield from self._gaps(report, inventory)
        yield from self._moments(report, inventory, plan)
        newest = None if local is None else max((file.name.max for file in local.level(RAW)), default=None)
        if newest is not None:
            yield families.LAG_TXIDS(max(0, newest - (report.restorable_txid or 0)), target=target)

    def _gaps(self, report: Report, inventory: Inventory) -> Iterator[Sample]:
        """Both kinds for every level that has files, so that a gap shows as a rise from 0."""
        found = Counter((gap.level, gap.covered) for gap in report.gaps)
        levels = {RAW, *inventory.levels, *(gap.level for gap in report.gaps)} - {SNAPSHOT}
        for level in sorted(levels):
            for covered in (False, True):
                yield families.GAPS(
                    found[level, covered], target=self.target, level=level, covered=str(covered).lower()
                )

    def _moments(self, report: Report, inventory: Inventory, plan: Plan) -> Iterator[Sample]:
        """Data times, as the headers have them; a file whose header is not known has none."""
        created = self._remote.headers.created
        snapshot = created(next(reversed(inventory.level(SNAPSHOT)), None))
        if snapshot is not None:
            yield families.SNAPSHOT_TIME(snapshot, target=self.target)
        if report.restorable_txid != plan.restorable_txid:
            return
        oldest = created(find_reach(inventory, plan).oldest)
        newest = created(plan.files[-1]) if plan.files else None
        if oldest is not None and newest is not None:
            yield families.PITR_OLDEST(oldest, target=self.target)
            yield families.PITR_NEWEST(newest, target=self.target)


class RpoCollector:
    """Measures what the database holds and the replica does not."""

    name = RPO_COLLECTOR

    def __init__(self, sight: Sight, remote: RemoteListing, meter: Meter, clock: Clock) -> None:
        self.target = sight.target.name
        self.interval = remote.interval
        self.timeout = remote.timeout + 2 * WAITING
        self._sight = sight
        self._remote = remote
        self._meter = meter
        self._clock = clock

    def verdicts(self) -> Sequence[Sample]:
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        assert self._sight.report is not None
        report = await self._sight.report.settled()
        header = None if report is None else await self._replicated(report)
        try:
            exposure = await in_thread(self._measured, report is not None, header)
        except OSError as error:
            raise Unreachable(f"{self._meter.database} or its WAL cannot be read: {error}") from error
        for sample in self._samples(exposure, "" if report is not None else REPLICA_UNKNOWN):
            yield sample

    async def _replicated(self, report: Report) -> Header | None:
        """The header of the last file of a restore; that of level 0 if there is one: it knows its place in the WAL."""
        inventory, txid = self._sight.findings.inventory, report.restorable_txid
        if inventory is None or txid is None:
            return None
        raw = await in_thread(raw_file, inventory, txid)
        if raw is not None and (header := await self._remote.header(raw)) is not None:
            return header
        files = (await in_thread(make_plan, inventory, txid=txid)).files
        return await self._remote.header(files[-1]) if files else None

    def _measured(self, known: bool, header: Header | None) -> Exposure:
        """Against the replica, or as if it held every local LTX file: less than that cannot be missing."""
        local = self._meter.local
        if not known:
            local.look(after=_BEYOND)
            newest = local.read(LtxName(local.tip, local.tip)) if local.tip else None
            header = None if newest is None else newest.header
        return self._meter.measure(header)

    def _samples(self, exposure: Exposure, unknown: str) -> Iterator[Sample]:
        target, reason = self.target, unknown or exposure.reason
        if reason:
            yield families.RPO_AT_LEAST(exposure.at_least, target=target, reason=reason)
        else:
            yield families.RPO_COMMITS(exposure.at_least, target=target)
            yield families.RPO_WAL_BYTES(exposure.bytes, target=target)
        seconds = None if unknown else exposure.seconds(self._clock.time())
        if seconds is not None:
            yield families.RPO_SECONDS(seconds, target=target)
