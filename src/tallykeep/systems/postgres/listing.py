"""`tallykeep postgres list`: the base backups of each tier, as its manifest and its WAL tell them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tallykeep.clock import Clock
from tallykeep.errors import NotFound, StoreError, TallykeepError
from tallykeep.runtime.telling import tell
from tallykeep.storage.local import LocalStore
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.reach import Reach, coverage_of
from tallykeep.systems.postgres.repository.entries import BackupEntry, VerifiedEntry
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.working import NO_ANSWER, Work, run_work
from tallykeep.units import format_bytes, format_timestamp


@dataclass(frozen=True, slots=True)
class Listed:
    """A backup as a tier holds it."""

    entry: BackupEntry
    reach: Reach
    verified: VerifiedEntry | None  # the last verdict

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        entry, verdict = self.entry, self.verified
        return {
            "id": entry.id, "name": entry.name, "started": entry.started, "finished": entry.finished,
            "version": entry.version, "system_id": entry.system_id, "timeline": entry.timeline,
            "start_lsn": entry.start_lsn, "stop_lsn": entry.stop_lsn, "files": entry.files,
            "bytes": entry.raw, "stored": entry.added,
            "wal": {"usable": self.reach.usable, "until": str(self.reach.end), "timeline": self.reach.timeline},
            "verified": None if verdict is None else
            {"sound": verdict.sound, "time": verdict.time, "problem": verdict.problem},
        }  # fmt: skip

    def line(self) -> str:
        """For people."""
        entry, wal = self.entry, f"recoverable to {self.reach.end}"
        if not self.reach.usable:
            wal = "NOT USABLE: its WAL is not there"
        return (
            f"  {entry.id[:12]}  {entry.name:20}  {format_timestamp(round(entry.started))}  "
            f"{format_bytes(entry.raw):>9}  {_verdict(self.verified):10}  {wal}"
        )


@dataclass(frozen=True, slots=True)
class TierListing:
    """What a tier says; `problem` where it cannot be told."""

    cluster: str
    tier: str
    backups: Sequence[Listed] = ()
    problem: str = ""
    status: int = 0

    def as_json(self) -> dict[str, Any]:
        """For programs: `backups` is null where they are unknown."""
        backups = None if self.problem else [listed.as_json() for listed in self.backups]
        return {"cluster": self.cluster, "tier": self.tier, "backups": backups, "problem": self.problem or None}

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.problem:
            yield f"{self.cluster}, tier {self.tier}: unknown: {self.problem}"
            return
        yield f"{self.cluster}, tier {self.tier}: {len(self.backups) or 'no'} backup{'s'[: len(self.backups) != 1]}"
        for listed in self.backups:
            yield listed.line()


def run_list(args: argparse.Namespace) -> int:
    """`list`."""

    async def work(work: Work) -> int:
        found = [
            await listing(cluster, tier, work.clock)
            for cluster in work.clusters
            for tier in ([cluster.tier(args.tier)] if args.tier else cluster.tiers)
        ]
        tell(args, [one.as_json() for one in found], [line for one in found for line in one.lines()])
        return max(one.status for one in found)

    return run_work(args, work)


async def listing(cluster: Cluster, tier: Tier, clock: Clock) -> TierListing:
    """A tier's backups; what cannot be read is told and not raised."""
    try:
        await tier.check_key()
        repository = await Repository.listed(tier.base, clock, tier.cipher)
        coverage = await coverage_of(tier.wal)
    except TallykeepError as error:
        if isinstance(error, NotFound) and tier.base.backend == LocalStore.backend:  # its folder is not made yet
            return TierListing(cluster.name, tier.number)
        status = NO_ANSWER if isinstance(error, StoreError) else error.exit_status
        return TierListing(cluster.name, tier.number, problem=str(error), status=status)
    listed = [
        Listed(entry, coverage.reach(entry), repository.verified.get(entry.id)) for entry in repository.backups.values()
    ]
    return TierListing(cluster.name, tier.number, listed)


def _verdict(verified: VerifiedEntry | None) -> str:
    if verified is None:
        return "unverified"
    return "sound" if verified.sound else "DAMAGED"
