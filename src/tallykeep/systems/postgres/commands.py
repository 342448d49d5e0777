"""`tallykeep postgres backup`, `verify` and `key`: arguments into work, and results onto the screen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from tallykeep.errors import SourceError
from tallykeep.runtime.progress import Meter, progress
from tallykeep.runtime.telling import remark, tell
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.backing_up import Watching, run_backup
from tallykeep.systems.postgres.basebackup.protocol import Begun
from tallykeep.systems.postgres.cluster import Cluster, Tier, prepare
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.working import Work, run_work
from tallykeep.units import format_bytes, format_duration

if TYPE_CHECKING:
    from tallykeep.systems.postgres.verifying.verdict import Verdict


def run_backup_command(args: argparse.Namespace) -> int:
    """`backup`."""

    async def work(work: Work) -> int:
        entries = [(cluster, await _backed_up(work, cluster)) for cluster in work.clusters]
        body = [{"cluster": cluster.name, **asdict(entry)} for cluster, entry in entries]
        tell(args, body, [line for cluster, entry in entries for line in _backup_lines(cluster, entry)])
        return 0

    return run_work(args, work)


async def _backed_up(work: Work, cluster: Cluster) -> BackupEntry:
    silent = work.args.json or work.args.quiet
    _ = cluster.source  # one that can only be restored is refused before anything is made
    await prepare(cluster)
    with ExitStack() as stack:
        meter: Meter = stack.enter_context(progress(f"{cluster.name}: base backup", silent=silent))

        def begun(what: Begun) -> None:
            meter.expect(sum(space.size for space in what.spaces))

        def stage(what: str) -> None:
            if not silent:
                remark(f"{cluster.name}: {what}")

        async def done(cluster: Cluster, entry: BackupEntry) -> None:
            if cluster.tier2 is not None:
                await _announce(work, cluster, entry)

        watching = Watching(begun, meter.advance, stage, done)
        return await run_backup(cluster, work.settings, work.clock, work.args.name, watching)


async def _announce(work: Work, cluster: Cluster, entry: BackupEntry) -> None:
    """Have the running server copy it to tier 2 now; without one, the next comparison of the tiers finds it."""
    from tallykeep.systems.postgres.offload.dead_letters import announce
    from tallykeep.systems.postgres.offload.items import BACKUP, Item

    try:
        await announce(work.settings, Item(BACKUP, cluster.name, entry.id))
    except SourceError as error:
        remark(f"{cluster.name}: it goes to tier 2 when a server runs that compares the tiers. {error}")


def _backup_lines(cluster: Cluster, entry: BackupEntry) -> Iterator[str]:
    yield f"{cluster.name}: backup {entry.name} ({entry.id}) is complete"
    yield (
        f"  {format_bytes(entry.raw)} in {entry.files} files, {format_bytes(entry.added)} of them new and stored, in "
        f"{format_duration(entry.finished - entry.started)}"
    )
    yield f"  can be restored from {entry.stop_lsn} on timeline {entry.timeline}"


def run_verify(args: argparse.Namespace) -> int:
    """`verify`."""

    async def work(work: Work) -> int:
        found = [
            (cluster, tier.number, await _verified(work, cluster, tier))
            for cluster in work.clusters
            for tier in ([cluster.tier(args.tier)] if args.tier else cluster.tiers)
        ]
        body = [
            {"cluster": cluster.name, "tier": tier, "sound": all(verdict.sound for verdict in verdicts),
             "verdicts": [asdict(verdict) for verdict in verdicts]}
            for cluster, tier, verdicts in found
        ]  # fmt: skip
        tell(args, body, [line for each in found for line in _verdict_lines(*each)])
        return int(not all(verdict.sound for _, _, verdicts in found for verdict in verdicts))

    return run_work(args, work)


async def _verified(work: Work, cluster: Cluster, tier: Tier) -> Sequence[Verdict]:
    from tallykeep.systems.postgres.verifying.verify import verify_tier

    title, silent = f"{cluster.name}: tier {tier.number}", work.args.json or work.args.quiet
    with progress(title, silent=silent) as meter:
        return await verify_tier(cluster, tier, work.clock, work.args.backups, meter.advance, begun=meter.expect)


def _verdict_lines(cluster: Cluster, tier: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    if not verdicts:
        yield f"{cluster.name}, tier {tier}: holds no backup"
    for verdict in verdicts:
        what = f"backup {verdict.name} ({verdict.backup[:12]})" if verdict.backup else "the rest"
        pages = f", {verdict.pages} page checksums" if verdict.page_checksums else ", its pages have no checksums"
        read = f": {format_bytes(verdict.bytes)} read{pages}" if verdict.sound else ""
        yield f"{cluster.name}, tier {tier}: {what} is {'sound' if verdict.sound else 'DAMAGED'}{read}"
        for problem in verdict.problems:
            yield f"  {problem}"


def run_key(args: argparse.Namespace) -> int:
    """`key`."""
    key = keyfile.generate()
    if args.file is None or str(args.file) == "-":
        text = keyfile.to_text(key)
        tell(args, {"key": text}, [text])
        return 0
    keyfile.write(args.file, key)
    tell(args, {"file": str(args.file)}, [
        f"The key is in {args.file}. Keep a copy of it where the backups are not: without it nothing can be restored.",
        f"Use it with key_file: {args.file}, or TALLYKEEP_POSTGRES_KEY_FILE={args.file}.",
    ])  # fmt: skip
    return 0
