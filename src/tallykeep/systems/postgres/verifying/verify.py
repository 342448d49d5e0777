"""`verify_tier`, `verify_backup`: every byte read and proved, and a verdict for each backup.

Packs are read once, for all backups together. Memory: what packs.py, ledger.py and wal.py say, the repository's own,
and one backup's list of files at a time. Nothing is locked: what a retention removes meanwhile is no damage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import Conflict, IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.control import Control
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import writing
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.repository.entries import BackupEntry, DamagedEntry, Entry, VerifiedEntry
from tallykeep.systems.postgres.repository.files import Files
from tallykeep.systems.postgres.repository.pack import FOLDER, Pack
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.verifying.judging import control_of, judge, listed
from tallykeep.systems.postgres.verifying.ledger import Ledger
from tallykeep.systems.postgres.verifying.manifest import WalRange
from tallykeep.systems.postgres.verifying.packs import Advance, must_be_there, read_packs
from tallykeep.systems.postgres.verifying.verdict import REST, Problems, Verdict
from tallykeep.systems.postgres.verifying.wal import WalProof

PATIENCE = 30.0  # seconds in which WAL up to a backup's end may still arrive
_CLOCK = SystemClock()


async def verify_tier(
    cluster: Cluster, tier: Tier, clock: Clock, ids: Collection[str] = (), advance: Advance = lambda _: None,
    *, begun: Callable[[int], None] = lambda _: None, patience: float = PATIENCE,
) -> list[Verdict]:  # fmt: skip
    """Verify the backups of those ids or names, or all and the rest of the tier; verdicts are written down.

    `begun` is told how many bytes of packs will be read, `advance` how many more have been; WAL of the rest comes on
    top. Raises: ConfigError for a wrong key; RestoreError for a backup that is not there; StoreErrors, and then
    nothing is known and nothing is written down.
    """
    await tier.check_key()
    damage: list[str] = []
    try:
        repository = await Repository.open(tier.base, clock, tier.cipher, damage)
    except IntegrityError as error:
        verdicts, run = [Verdict(REST, tier.number, sound=False, problems=(str(error),))], None
    else:
        if damage:
            await must_be_there(tier.base)
        entries = [repository.backup(id) for id in ids] or list(repository.backups.values())
        run = _Run(tier, repository, clock, patience)
        verdicts = await run.verify(entries, damage, advance, begun, everything=not ids)
    await note(cluster, tier, verdicts, clock, run.read if run else {}, everything=not ids)
    return verdicts


async def verify_backup(
    tier: Tier, repository: Repository, entry: BackupEntry, advance: Advance = lambda _: None,
    *, clock: Clock = _CLOCK, begun: Callable[[int], None] = lambda _: None, patience: float = PATIENCE,
    read: dict[str, bool] | None = None,
) -> Verdict:  # fmt: skip
    """Verify one backup, and write nothing down; `read` gets the keys of its packs, and whether each is sound.

    Raises: Conflict where it was let go of meanwhile; StoreErrors, and then nothing is known.
    """
    run = _Run(tier, repository, clock, patience)
    verdicts = await run.verify([entry], [], advance, begun, everything=False)
    if read is not None:
        read.update(run.read)
    if not verdicts:
        raise Conflict(f"{repository.store.name}: the backup {entry} was let go of while it was read.")
    return verdicts[0]


async def note(
    cluster: Cluster, tier: Tier, verdicts: Sequence[Verdict], clock: Clock, read: Mapping[str, bool],
    *, everything: bool,
) -> None:  # fmt: skip
    """Write verdicts down, in the tier's manifest and in the journal; where tier 1 is elsewhere, nothing is.

    `read`: keys of packs that were read, and whether each is sound; `everything`: whether all of the tier was.

    Raises: as locks.writing does.
    """
    if not verdicts or not await in_thread((cluster.folder / "base").is_dir):
        return
    now, problem = round(clock.time(), 3), next((problem for verdict in verdicts for problem in verdict.problems), "")
    entries = [
        VerifiedEntry(verdict.backup, now, verdict.sound, next(iter(verdict.problems), ""))
        for verdict in verdicts if verdict.backup != REST
    ]  # fmt: skip
    try:
        if entries or not all(read.values()):
            await _commit(cluster, tier, entries, clock, read)
    except (IntegrityError, NotFound):  # of an index: nothing is written to a repository that does not open
        if not problem:
            raise
    await in_thread(Journal(cluster.folder).verified, tier.number, now, problem, everything=everything)


async def _commit(
    cluster: Cluster, tier: Tier, entries: Sequence[VerifiedEntry], clock: Clock, read: Mapping[str, bool]
) -> None:
    async with writing(cluster, tier, clock) as repository:
        told = [entry for entry in entries if entry.backup in repository.backups]
        await repository.commit([*told, *damage_of(repository, read, clock)])


def damage_of(repository: Repository, read: Mapping[str, bool], clock: Clock) -> list[Entry]:
    """What is to be committed of damaged packs: nothing where nothing is new.

    `read`: keys of packs that were read, and whether each is sound; `everything`: whether all of the tier was.
    """
    damaged = {key for key in repository.damaged if not read.get(key)}
    damaged |= {pack.key for pack in repository.packs if not read.get(pack.key, True)}
    return [] if damaged == repository.damaged else [DamagedEntry(round(clock.time(), 3), sorted(damaged))]


@dataclass(slots=True)
class _Run:
    """One verification."""

    tier: Tier
    repository: Repository
    clock: Clock
    patience: float
    read: dict[str, bool] = field(default_factory=dict)  # keys of packs, and whether each is sound

    async def verify(
        self, entries: Sequence[BackupEntry], damage: Sequence[str], advance: Advance,
        begun: Callable[[int], None], *, everything: bool,
    ) -> list[Verdict]:  # fmt: skip
        """A verdict for each; with `everything` all packs and all WAL are read, and the REST is told of."""
        began, controls = self.clock.monotonic(), dict[str, Control | None]()
        packs = self.repository.packs if everything else await self._packs_of(entries)
        ledger = Ledger(self.repository, packs)
        for entry in entries:
            controls[entry.id] = await self._note_pages(entry, ledger)
        begun(sum(pack.size for pack in packs))
        await read_packs(ledger, advance)
        self.read = {pack.key: pack.key not in ledger.damaged for pack in packs}
        wal, rest, broken = WalProof(self.tier.wal, self.clock, self.patience), Problems(), set[str]()
        verdicts = [await self._judge(entry, controls[entry.id], ledger, wal, damage, broken) for entry in entries]
        if everything:
            rest.extend(damage)
            rest.extend(self._unclaimed(ledger, broken))
            rest.extend(await _orphaned(self.repository))
            await wal.rest(rest, advance)
        if rest.count:
            verdicts.append(Verdict(REST, self.tier.number, sound=False, problems=rest.all()))
        seconds = self.clock.monotonic() - began
        return [replace(verdict, seconds=seconds) for verdict in await self._still_there(verdicts, ledger)]

    async def _packs_of(self, entries: Iterable[BackupEntry]) -> list[Pack]:
        """The packs that hold chunks of these backups."""
        wanted: dict[str, Pack] = {}
        for entry in entries:
            files = await listed(self.repository, entry, Problems())
            if files is not None:
                await in_thread(_add_packs, self.repository, files, wanted)
        return list(wanted.values())

    async def _note_pages(self, entry: BackupEntry, ledger: Ledger) -> Control | None:
        """Have the ledger compare checksums of this backup's pages; what its pg_control says."""
        files = await listed(self.repository, entry, Problems())
        control = None if files is None else await control_of(self.repository, files)
        if files is not None and control is not None and control.checksums:
            await in_thread(ledger.note_pages, files, control)
        return control

    async def _judge(
        self, entry: BackupEntry, control: Control | None, ledger: Ledger, wal: WalProof, damage: Sequence[str],
        broken: set[str],
    ) -> Verdict:  # fmt: skip
        problems = Problems()
        files = await listed(self.repository, entry, problems)
        wanted = [WalRange(entry.timeline, LSN.parse(entry.start_lsn), LSN.parse(entry.stop_lsn))]
        judged = None if files is None else await judge(entry, files, control, ledger)
        if judged is not None:
            problems.extend(judged.problems.all())
            broken |= judged.broken
            wanted = list(judged.manifest.wal) if judged.manifest else wanted
        for each in wanted:
            await wal.needed(each, problems)
        sound = not problems.count
        if not sound:
            problems.extend(damage)
        return Verdict(
            entry.id, self.tier.number, sound, problems.all(), judged.bytes if judged else 0,
            judged.pages if judged else 0, 0.0, entry.name, judged.torn if judged else 0,
            control is not None and control.checksums,
        )  # fmt: skip

    def _unclaimed(self, ledger: Ledger, broken: set[str]) -> Iterable[str]:
        """Damage of packs that no backup that was verified needs the damaged chunks of."""
        for pack in ledger.packs:
            if pack.key in ledger.broken and pack.key not in broken:
                yield ledger.broken[pack.key]
            first = ledger.first(pack)
            if pack.key in ledger.hit and pack.key not in broken | ledger.missing:
                yield from (ledger.bad[n] for n in range(first, first + len(pack.stored)) if n in ledger.bad)

    async def _still_there(self, verdicts: list[Verdict], ledger: Ledger) -> list[Verdict]:
        """Without what a retention has removed meanwhile."""
        if not ledger.missing and all(verdict.sound for verdict in verdicts):
            return verdicts
        now = await Repository.open(self.tier.base, self.clock, self.tier.cipher, [])
        removed = {ledger.broken[key] for key in ledger.missing - now.keys()}
        found = []
        for verdict in verdicts:
            left = tuple(problem for problem in verdict.problems if problem not in removed)
            if verdict.backup in now.backups:
                found.append(verdict)
            elif verdict.backup == REST and left:
                found.append(replace(verdict, problems=left))
        return found


def _add_packs(repository: Repository, files: Files, wanted: dict[str, Pack]) -> None:
    for file in files.files:
        for id in file.chunks:
            if id in repository:
                pack = repository.place(id)[0]
                wanted[pack.key] = pack


async def _orphaned(repository: Repository) -> list[str]:
    """A manifest that is gone while packs are there. Raises: StoreErrors."""
    if repository.chain.records or not await _holds(repository.store, FOLDER):
        return []
    return [f"{repository.store.name}: holds packs and no manifest; bring manifest/ back from a copy of the backup."]


async def _holds(store: Store, prefix: str) -> bool:
    async for page in store.list(prefix):
        if page:
            return True
    return False
