"""What a check found: a verdict, how far it was proven, and why.

The fields and words below are what `check --json` prints; scripts read them, so they are only ever added to.

    verdict   restorable    Litestream can restore the newest TXID on the replica, as far as the proof goes
              unrestorable  it cannot
              unknown       the question could not be answered
    proof     listing       names and sizes
              checksums     every listed file read and verified
              drill         restored as well, and examined by SQLite

Exit status: 0 restorable and no reason left; 1 unrestorable, or restorable with a reason; 3 unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tallykeep.systems.litestream.gaps import Gap
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.units import format_timestamp

Json = dict[str, object]


class Verdict(StrEnum):
    """The answer to: can this replica be restored?"""

    RESTORABLE = "restorable"
    UNRESTORABLE = "unrestorable"
    UNKNOWN = "unknown"


class Proof(StrEnum):
    """What an answer rests on. Each is a part of the next."""

    LISTING = "listing"
    CHECKSUMS = "checksums"
    DRILL = "drill"


class Reason(StrEnum):
    """Why a verdict is not a plain yes, in the order in which reports name them."""

    UNREACHABLE = "unreachable"  # the replica did not answer, or refused
    EMPTY = "empty"  # no LTX file at all
    NO_BASE = "no_base"  # nothing starts at TXID 1
    GAP = "gap"  # TXIDs that no level has
    CORRUPT = "corrupt"  # a file contradicts its own checksum, name or size
    MISSING_PAGES = "missing_pages"  # pages of the database that no file of the plan has
    MALFORMED_DATABASE = "malformed_database"  # it restores, but SQLite finds it broken, or it is another database
    STALE = "stale"  # the local side has older commits that the replica lacks


EXPLANATIONS = {
    Reason.UNREACHABLE: "the replica could not be listed",
    Reason.EMPTY: "the replica holds no LTX file",
    Reason.NO_BASE: "no snapshot and no file starts at TXID 1: there is nothing to build on",
    Reason.GAP: "TXIDs are missing that no level covers: Litestream refuses to restore the newest TXID",
    Reason.CORRUPT: "files contradict their own checksum, name or size",
    Reason.MISSING_PAGES: "pages of the database are in no file of the plan",
    Reason.MALFORMED_DATABASE: "the restored database is not sound",
    Reason.STALE: "the replica is behind the local side",
}


class CorruptFile(NamedTuple):
    """A listed file that cannot be used."""

    key: str
    level: int
    reason: str  # too_small, truncated, checksum, header_name_mismatch, ...
    in_plan: bool  # whether a restore of the newest TXID needs it

    def as_json(self) -> Json:
        """Its four fields."""
        return {"key": self.key, "level": self.level, "reason": self.reason, "in_plan": self.in_plan}


@dataclass(frozen=True, slots=True)
class LocalSide:
    """How far the replica is behind the live database."""

    lag_txids: int | None  # local TXIDs that a restore would not have
    rpo_commits: int | None = None  # commits a restore would not have, where they can be counted
    rpo_at_least: int | None = None  # else: as many at least
    rpo_reason: str = ""  # why only at least
    rpo_bytes: int | None = None  # bytes of WAL not on the replica
    rpo_seconds: float | None = None  # age of the oldest commit at risk, 0 when none is

    def as_json(self) -> Json:
        """`rpo_commits`, or `rpo_at_least` with `rpo_reason`; never both."""
        fields: Json = {"lag_txids": self.lag_txids}
        if self.rpo_commits is not None:
            fields["rpo_commits"] = self.rpo_commits
        else:
            fields |= {"rpo_at_least": self.rpo_at_least, "rpo_reason": self.rpo_reason}
        return fields | {"rpo_bytes": self.rpo_bytes, "rpo_seconds": self.rpo_seconds}


@dataclass(frozen=True, slots=True)
class Report:
    """One answer about one replica. Immutable; `as_json` is its published form."""

    target: str
    verdict: Verdict
    proof: Proof
    reasons: tuple[Reason, ...] = ()
    restorable_txid: Txid | None = None  # newest TXID shown restorable at this proof
    newest_txid: Txid | None = None  # newest TXID any name claims
    plan_files: int = 0
    plan_bytes: int = 0
    corrupt_files: tuple[CorruptFile, ...] = ()
    missing_pages: int = 0
    gaps: tuple[Gap, ...] = ()
    layout: str = ""  # s3, folder; "" where there are no files
    files: int = 0
    bytes: int = 0
    snapshot_txid: Txid | None = None  # of the newest snapshot
    snapshot_time: float | None = None  # Unix seconds
    pitr_oldest_time: float | None = None  # Unix seconds: from then on any moment can be restored
    verified_files: int = 0  # read and verified by this check
    verified_bytes: int = 0
    local: LocalSide | None = None
    drill: Json | None = None  # the drill's own result
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_status(self) -> int:
        """0, 1 or 3, as the module says."""
        if self.verdict is Verdict.UNKNOWN:
            return 3
        return 0 if self.verdict is Verdict.RESTORABLE and not self.reasons else 1

    def as_json(self) -> Json:
        """Plain values only: TXIDs as 16 hex digits, times as RFC 3339."""
        return {
            "target": self.target,
            "verdict": str(self.verdict),
            "proof": str(self.proof),
            "reasons": [str(reason) for reason in self.reasons],
            "restorable_txid": _hex(self.restorable_txid),
            "newest_txid": _hex(self.newest_txid),
            "plan_files": self.plan_files,
            "plan_bytes": self.plan_bytes,
            "corrupt_files": [file.as_json() for file in self.corrupt_files],
            "missing_pages": self.missing_pages,
            "gaps": [_gap(gap) for gap in self.gaps],
            "layout": self.layout,
            "files": self.files,
            "bytes": self.bytes,
            "snapshot_txid": _hex(self.snapshot_txid),
            "snapshot_time": _moment(self.snapshot_time),
            "pitr_oldest_time": _moment(self.pitr_oldest_time),
            "verified_files": self.verified_files,
            "verified_bytes": self.verified_bytes,
            **({} if self.local is None else self.local.as_json()),
            **({} if self.drill is None else {"drill": self.drill}),
            "notes": list(self.notes),
        }


def ordered(reasons: Collection[Reason]) -> tuple[Reason, ...]:
    """Each reason once, in the order of the enumeration."""
    return tuple(reason for reason in Reason if reason in reasons)


def explained(report: Report) -> Iterator[str]:
    """A line for each reason, with the figures that belong to it."""
    for reason in report.reasons:
        yield f"{reason}: {EXPLANATIONS[reason]}{_detail(report, reason)}"


def _detail(report: Report, reason: Reason) -> str:
    if reason is Reason.CORRUPT:
        inside = sum(file.in_plan for file in report.corrupt_files)
        return f" ({len(report.corrupt_files)} corrupt, {inside} of them in the restore plan)"
    if reason is Reason.MISSING_PAGES:
        return f" ({report.missing_pages} missing)"
    if reason is Reason.STALE and report.local is not None and report.local.lag_txids is not None:
        return f" ({report.local.lag_txids} TXIDs)"
    return ""


def _gap(gap: Gap) -> Json:
    return {"level": gap.level, "after": str(gap.after), "before": str(gap.before), "covered": gap.covered}


def _hex(txid: Txid | None) -> str | None:
    return None if txid is None else str(txid)


def _moment(unix: float | None) -> str | None:
    return None if unix is None else format_timestamp(unix)
