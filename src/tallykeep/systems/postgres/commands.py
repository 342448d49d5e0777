"""`tallykeep postgres backup`, `verify` and `key`: arguments into work, and results onto the screen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict

from tallykeep.runtime.progress import Meter, progress
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.backing_up import Watching, run_backup
from tallykeep.systems.postgres.basebackup.protocol import Begun
from tallykeep.systems.postgres.cluster import Cluster, prepare
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.working import Work, remark, run_work, tell
from tallykeep.units import format_bytes, format_duration


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

        watching = Watching(begun, meter.advance, stage)
        return await run_backup(cluster, work.settings, work.clock, work.args.name, watching)


def _backup_lines(cluster: Cluster, entry: BackupEntry) -> Iterator[str]:
    yield f"{cluster.name}: backup {entry.name} ({entry.id}) is complete"
    yield (
        f"  {format_bytes(entry.raw)} in {entry.files} files, {format_bytes(entry.added)} of them new and stored, in "
        f"{format_duration(entry.finished - entry.started)}"
    )
    yield f"  can be restored from {entry.stop_lsn} on timeline {entry.timeline}"


def run_key(args: argparse.Namespace) -> int:
    """`key`."""
    key = keyfile.generate()
    if args.file is None:
        text = keyfile.to_text(key)
        tell(args, {"key": text}, [text])
        return 0
    keyfile.write(args.file, key)
    tell(args, {"file": str(args.file)}, [
        f"The key is in {args.file}. Keep a copy of it where the backups are not: without it nothing can be restored.",
        f"Use it with key_file: {args.file}, or TALLYKEEP_POSTGRES_KEY_FILE={args.file}.",
    ])  # fmt: skip
    return 0
