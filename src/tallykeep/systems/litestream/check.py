"""One look at one replica: list, compare with the local side, and as asked read everything and restore.

The same judgement as on /metrics, made at once and by itself. Each proof includes the one before:

    listing    names and sizes, and with a local side how far behind the replica is
    checksums  every listed file is read to its end and verified
    drill      the newest restorable state is restored as well, and examined by SQLite

A replica is stale when the local side has had TXIDs for more than a grace period that the replica lacks. Younger
ones are waited for, so that a busy and healthy replica is never called stale.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import NotFound, StoreError
from tallykeep.storage.store import Store
from tallykeep.systems.litestream import local_side
from tallykeep.systems.litestream.drill_result import DrillResult
from tallykeep.systems.litestream.drilling import list_inventory
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.inventory import LtxFile
from tallykeep.systems.litestream.known import Evidence, Listed
from tallykeep.systems.litestream.levels import SNAPSHOT
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.plan import find_newest, find_reach, make_plan
from tallykeep.systems.litestream.report import LocalSide, Proof, Reason, Report, Verdict, ordered
from tallykeep.systems.litestream.targets import Target
from tallykeep.systems.litestream.verdict import judge, unreachable
from tallykeep.systems.litestream.verifying import verify_all
from tallykeep.threads import in_thread

GRACE = 10.0  # seconds a TXID may take to the replica; Litestream uploads every second
_ROUNDS = 3  # listings, when files vanish while they are read

Drill = Callable[[Txid | None], Awaitable[DrillResult]]
Advance = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass(slots=True)
class _Look:
    """What has been learned so far."""

    findings: Findings = field(default_factory=lambda: Findings(all_pages=True))
    vanished: int = 0
    verified_files: int = 0
    verified_bytes: int = 0
    notes: list[str] = field(default_factory=list)


class Check:
    """One check of one target."""

    def __init__(
        self,
        target: Target,
        store: Store,
        *,
        drill: Drill | None = None,
        advance: Advance = lambda what, done, total: None,
        grace: float = GRACE,
        clock: Clock | None = None,
    ) -> None:
        """`drill` restores to a TXID, None being the newest; needed for the proof of that name."""
        self._target = target
        self._store = store
        self._drill = drill
        self._advance = advance
        self._grace = grace
        self._clock = clock or SystemClock()
        self._look = _Look()

    @property
    def findings(self) -> Findings:
        """What was learned, with the listing it was learned from."""
        return self._look.findings

    async def run(self, proof: Proof = Proof.LISTING) -> Report:
        """The report. A replica that does not answer is unknown; nothing of it is raised."""
        try:
            await self._list()
            stale = await self._is_stale()
            if proof is not Proof.LISTING:
                await self._read_all()
            report = await self._judged(proof, stale)
            if proof is Proof.DRILL:
                report = await self._drilled(report)
        except StoreError as error:
            return unreachable(self._target.name, proof, str(error), await self._local_alone())
        return report

    async def _list(self) -> None:
        self._look.findings.look(Listed.of(await list_inventory(self._store)))

    async def _is_stale(self) -> bool:
        """Whether the replica lacks a TXID that the local side has had for longer than the grace period."""
        ltx = self._target.local
        if ltx is None:
            return False
        local = await in_thread(local_side.look, ltx)
        wanted = local.tip
        while wanted is not None and (tip := self._listed_tip()) < wanted:
            since = await in_thread(local.waiting_since, tip)
            if since is None or self._clock.time() - since >= self._grace:
                return since is not None
            await self._clock.sleep(min(1.0, self._grace))
            await self._list()
        return False

    def _listed_tip(self) -> Txid:
        plan = self._look.findings.plan
        return Txid(0) if plan is None else plan.tip

    async def _read_all(self) -> None:
        """Verify every listed file. After files have vanished, list again and read what is new."""
        look = self._look
        for _ in range(_ROUNDS):
            findings = look.findings
            todo = [file for key, file in findings.listed.items() if key not in findings.read]
            vanished = 0
            async for checked in verify_all(self._store, todo):
                findings.record(checked, self._clock.time())
                vanished += checked.vanished
                if not checked.vanished:
                    look.verified_files += 1
                    look.verified_bytes += checked.file.size
                    self._advance("verified", look.verified_bytes, sum(file.size for file in todo))
            look.vanished += vanished
            if not vanished:
                return
            await self._list()
        look.notes.append("files kept vanishing while they were read: check again")

    async def _judged(self, proof: Proof, stale: bool) -> Report:
        look, findings = self._look, self._look.findings
        assert findings.inventory is not None
        evidence = Evidence() if proof is Proof.LISTING else findings.evidence()
        report = judge(self._target.name, findings.inventory, evidence, plan=findings.plan, proof=proof, stale=stale)
        report = replace(
            report,
            local=await self._local(report.restorable_txid),
            verified_files=look.verified_files,
            verified_bytes=look.verified_bytes,
            notes=(*report.notes, *look.notes),
        )
        report = await self._dated(report)
        if proof is not Proof.LISTING and report.verdict is Verdict.RESTORABLE and not self._plan_was_read():
            return replace(report, verdict=Verdict.UNKNOWN)
        return report

    def _plan_was_read(self) -> bool:
        findings = self._look.findings
        return findings.cover is not None

    async def _dated(self, report: Report) -> Report:
        """Times as the headers have them: on object stores a listing shows the time of the upload."""
        inventory, plan = self._look.findings.inventory, self._look.findings.plan
        if inventory is None or plan is None or not report.plan_files:
            return report
        snapshot = next(reversed(inventory.level(SNAPSHOT)), None)
        oldest = find_reach(inventory, plan).oldest
        return replace(
            report,
            snapshot_time=await self._data_time(snapshot),
            pitr_oldest_time=await self._data_time(oldest),
        )

    async def _data_time(self, file: LtxFile | None) -> float | None:
        header = None if file is None else await self._header(file)
        return None if header is None else header.timestamp

    async def _header(self, file: LtxFile) -> Header | None:
        try:
            return Header.decode(await self._store.read_range(file.key, 0, HEADER_SIZE))
        except (LtxError, NotFound):
            return None

    async def _local(self, restorable: Txid | None) -> LocalSide | None:
        """The local side, after the replica was listed."""
        ltx = self._target.local
        if ltx is None:
            return None
        newest = None
        inventory = self._look.findings.inventory
        if restorable is not None and inventory is not None:
            file = find_newest(inventory, make_plan(inventory, txid=restorable))
            newest = await self._header(file) if file is not None else None
        try:
            local = await in_thread(local_side.look, ltx)
        except OSError as error:
            return LocalSide(None, rpo_reason=f"unreadable: {error}")
        return await in_thread(local_side.measure, local, self._target.database, restorable, newest, self._clock.time)

    async def _local_alone(self) -> LocalSide | None:
        """The local side while the replica is not known: what never left the WAL is surely not on it."""
        ltx = self._target.local
        if ltx is None:
            return None
        return await in_thread(local_side.measure_alone, ltx, self._target.database)

    async def _drilled(self, report: Report) -> Report:
        """Restore what the checksums call restorable, and let what comes out have its say."""
        if self._drill is None or report.restorable_txid is None:
            return report
        whole = report.verdict is Verdict.RESTORABLE
        result = await self._drill(None if whole else report.restorable_txid)
        report = replace(report, drill=result.as_json())
        if result.ok:
            return report
        note = f"drill {result.result} ({result.stage}): {result.message}"
        if result.result == "inconclusive":
            verdict = Verdict.UNKNOWN if whole else report.verdict
            return replace(report, verdict=verdict, notes=(*report.notes, note))
        reason = _REASONS.get(result.stage, Reason.MALFORMED_DATABASE)
        return replace(
            report,
            verdict=Verdict.UNRESTORABLE,
            reasons=ordered({*report.reasons, reason}),
            restorable_txid=None,
            notes=(*report.notes, note),
        )


_REASONS = {"decode": Reason.CORRUPT, "pages": Reason.MISSING_PAGES, "plan": Reason.GAP}
