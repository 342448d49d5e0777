"""The verdict on one replica, judged from its listing and from what else is known. Pure: no I/O.

Litestream's own restore is the measure. It goes to the newest TXID by the plan its rules give, and fails on the
first file that is not sound, also where a way around that file exists. So a corrupt file in the plan makes the
replica unrestorable, and `restorable_txid` is then the newest TXID to which `litestream restore -txid` still works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter

from tallykeep.systems.litestream.coverage import Cover, cover
from tallykeep.systems.litestream.gaps import Gap, find_faults
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.known import Evidence
from tallykeep.systems.litestream.levels import SNAPSHOT
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.plan import Plan, Problem, find_reach, make_plan
from tallykeep.systems.litestream.report import CorruptFile, LocalSide, Proof, Reason, Report, Verdict, ordered

NEWER_V3 = (
    "the newest backup here is one of Litestream 0.3: `litestream restore` takes that one, and the LTX files, of which"
    " this report speaks, only with -txid"
)
_MOST_TRIES = 500  # older TXIDs looked at when the newest is not restorable
_PROBLEMS = {Problem.EMPTY: Reason.EMPTY, Problem.NO_BASE: Reason.NO_BASE, Problem.GAP: Reason.GAP}


def judge(
    target: str,
    inventory: Inventory,
    evidence: Evidence | None = None,
    *,
    plan: Plan | None = None,
    proof: Proof = Proof.LISTING,
    local: LocalSide | None = None,
    stale: bool = False,
    created: Callable[[LtxFile], float] = attrgetter("modified"),
) -> Report:
    """The report on `inventory`. `stale`: whether the replica has been behind the local side for too long.

    `created` gives a file's data time, as in make_plan.
    """
    evidence = evidence or Evidence()
    plan = plan or make_plan(inventory)
    if plan.problem is Problem.EMPTY and inventory.v3.files:
        return Report(target, Verdict.UNKNOWN, proof, local=local, notes=_notes(inventory))
    covered = cover(plan.files, evidence.pages)
    missing = evidence.missing_pages if covered is None else len(covered.missing)
    corrupt = _corrupt(inventory, evidence, covered)
    reasons = _reasons(plan, corrupt, missing, evidence)
    broken = bool(reasons - {Reason.CORRUPT}) or any(file.key in corrupt for file in plan.files)
    files = () if plan.problem is Problem.NO_BASE else plan.files
    restorable = _newest_sound(inventory, corrupt, evidence) if broken else plan.restorable_txid
    oldest = find_reach(inventory, plan).oldest if files else None
    snapshot = next(reversed(inventory.level(SNAPSHOT)), None)
    return Report(
        target=target,
        verdict=Verdict.UNRESTORABLE if broken else Verdict.RESTORABLE,
        proof=proof,
        reasons=ordered(reasons | {Reason.STALE} if stale and plan.tip else reasons),
        restorable_txid=restorable,
        newest_txid=plan.tip or None,
        plan_files=len(files),
        plan_bytes=sum(file.size for file in files),
        corrupt_files=_listed(inventory, corrupt, plan),
        missing_pages=missing,
        gaps=_gaps(inventory, plan),
        layout=" and ".join(sorted(inventory.layouts)),
        files=inventory.total.files,
        bytes=inventory.total.bytes,
        snapshot_txid=snapshot.name.max if snapshot else None,
        snapshot_time=created(snapshot) if snapshot else None,
        pitr_oldest_time=created(oldest) if oldest else None,
        local=local,
        notes=_notes(inventory) + _way_around(inventory, corrupt, restorable),
    )


def unreachable(target: str, proof: Proof, message: str, local: LocalSide | None = None) -> Report:
    """The report on a replica that could not be looked at."""
    return Report(target, Verdict.UNKNOWN, proof, (Reason.UNREACHABLE,), local=local, notes=(message,))


def _corrupt(inventory: Inventory, evidence: Evidence, covered: Cover | None) -> Mapping[str, str]:
    """Key and reason of every listed file that is known to be of no use."""
    found = dict.fromkeys((file.key for file in inventory.too_small), "too_small")
    if covered is not None:
        found |= dict.fromkeys(covered.misfits, "page_size_mismatch")
    return found | dict(evidence.corrupt)


def _reasons(plan: Plan, corrupt: Mapping[str, str], missing: int, evidence: Evidence) -> set[Reason]:
    found = {_PROBLEMS[plan.problem]} if plan.problem in _PROBLEMS else set()
    if corrupt:
        found.add(Reason.CORRUPT)
    if missing:
        found.add(Reason.MISSING_PAGES)
    if evidence.malformed:
        found.add(Reason.MALFORMED_DATABASE)
    return found


def _newest_sound(inventory: Inventory, corrupt: Mapping[str, str], evidence: Evidence) -> Txid | None:
    """The newest TXID for which Litestream's rules give a plan of sound files; None for none.

    A plan to a TXID takes the same files up to its first bad one as any plan to an older TXID that this file does
    not go beyond. So after a bad file only TXIDs before its last are worth a try, and after a gap only those up to it.
    """
    if evidence.malformed:
        return None
    limit, tries = max((file.name.max for file in inventory), default=Txid(0)), 0
    for tip in sorted({file.name.max for file in inventory}, reverse=True):
        if tip > limit:
            continue
        if tries == _MOST_TRIES:
            break
        tries += 1
        plan = make_plan(inventory, txid=tip)
        bad = next((file for file in plan.files if file.key in corrupt), None)
        covered = cover(plan.files, evidence.pages)
        if plan.problem is not Problem.NONE:
            limit = plan.restorable_txid
        elif bad is not None:
            limit = Txid(bad.name.max - 1)
        elif covered is None:
            return None if evidence.missing_pages else tip
        elif not (covered.missing or covered.misfits):
            return tip
    return None


def _listed(inventory: Inventory, corrupt: Mapping[str, str], plan: Plan) -> tuple[CorruptFile, ...]:
    if not corrupt:
        return ()
    planned = {file.key for file in plan.files}
    return tuple(
        CorruptFile(file.key, file.level, corrupt[file.key], file.key in planned)
        for file in inventory
        if file.key in corrupt
    )


def _gaps(inventory: Inventory, plan: Plan) -> tuple[Gap, ...]:
    gaps = tuple(find_faults(inventory).gaps)
    if plan.gap is None or any((gap.after, gap.before) == (plan.gap.after, plan.gap.before) for gap in gaps):
        return gaps
    return (*gaps, plan.gap)


def _way_around(inventory: Inventory, corrupt: Mapping[str, str], restorable: Txid | None) -> tuple[str, ...]:
    """What could be restored if the corrupt files were out of the way, where that is more."""
    if not corrupt:
        return ()
    around = make_plan(inventory, without=corrupt.keys()).restorable_txid
    if around <= (restorable or 0):
        return ()
    return (f"with the corrupt files moved away, Litestream could restore TXID {around}",)


def _notes(inventory: Inventory) -> tuple[str, ...]:
    return tuple(_remarks(inventory))


def _remarks(inventory: Inventory) -> list[str]:
    notes = []
    if inventory.v3.files:
        notes.append(
            f"{inventory.v3.files} objects of Litestream 0.3 (generations/) lie here; "
            "they are not read: use Litestream for them"
        )
    if inventory.v3_is_newer and inventory.total.files:
        notes.append(NEWER_V3)
    if inventory.foreign:
        names = sorted(inventory.foreign)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"replicas of other databases lie below: {', '.join(names[:3])}{more}; check each by itself")
    if inventory.temporary.files:
        notes.append(f"{inventory.temporary.files} unfinished .ltx.tmp files; old ones can be removed")
    if len(inventory.layouts) > 1:
        notes.append("both remote layouts stand side by side: one replica was copied onto another")
    return notes
