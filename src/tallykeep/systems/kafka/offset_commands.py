"""What the commands of `tallykeep kafka offsets` do, once their arguments are read."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import time
from pathlib import Path

from tallykeep.clock import SystemClock
from tallykeep.errors import ConfigError, NotFound, StoreError, TallykeepError
from tallykeep.runtime.telling import remark, tell
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.digest import digest
from tallykeep.storage.store import Store
from tallykeep.systems.kafka import group_snapshot, offset_lines
from tallykeep.systems.kafka.cluster import Cluster
from tallykeep.systems.kafka.figures import ResetFigures
from tallykeep.systems.kafka.group_offsets import OffsetPlan, apply_plan, plan_groups
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.snapshot import Snapshot
from tallykeep.systems.kafka.working import Work, open_backup, run_work, source_cluster, target_cluster, told

RESTORES = "restores/"
_MAP = "/offset-map.json"
_FAILED = 1


class MapMissing(NotFound):
    """There is no offset map to go by."""

    published_code = "OFFSET_MAPPING_MISSING"


class SnapshotMissing(NotFound):
    """There are no saved offsets to go by."""

    published_code = "OFFSET_SNAPSHOT_NOT_FOUND"


def run_plan(args: argparse.Namespace) -> int:
    """`offsets plan`."""

    def work() -> int:
        plan = asyncio.run(_offline(args))
        tell(args, offset_lines.plan_json(plan), offset_lines.plan_lines(plan))
        return 0

    return told(args, work)


def run_script(args: argparse.Namespace) -> int:
    """`offsets script`."""

    def work() -> int:
        plan = asyncio.run(_offline(args))
        bootstrap = args.bootstrap or ",".join(target_cluster(args).bootstrap)
        script = list(offset_lines.script_lines(plan, bootstrap))
        tell(args, {"restore": plan.restore, "script": "\n".join(script) + "\n"}, script)
        return 0

    return told(args, work)


def run_apply(args: argparse.Namespace) -> int:
    """`offsets apply`."""

    async def work(work: Work) -> int:
        figures = ResetFigures(work.book)
        try:
            plan = await read_plan(args, None if args.map and args.snapshot else await work.store("offset_reset"))
            cluster, _ = await work.cluster(work.settings.target, "target")
            outcomes = await apply_plan(cluster, plan, work.clock, figures, dry_run=args.dry_run)
        except TallykeepError as error:
            figures.failed(error)
            raise
        tell(args, offset_lines.outcome_json(plan, outcomes, dry_run=args.dry_run),
             offset_lines.outcome_lines(plan, outcomes, dry_run=args.dry_run))  # fmt: skip
        return 0 if all(outcome.ok for outcome in outcomes) else _FAILED

    return run_work(args, work)


def run_snapshot(args: argparse.Namespace) -> int:
    """`offsets snapshot`."""

    def work() -> int:
        saved, where = asyncio.run(_saved(args))
        tell(args, offset_lines.snapshot_json(saved, where), offset_lines.snapshot_lines(saved, where))
        return 0

    return told(args, work)


async def _offline(args: argparse.Namespace) -> OffsetPlan:
    """The plan, from files alone where both are given."""
    if args.map and args.snapshot:
        return await read_plan(args, None)
    store = open_backup(args)
    try:
        return await read_plan(args, store)
    finally:
        await store.close()


async def read_plan(args: argparse.Namespace, store: Store | None) -> OffsetPlan:
    """The plan that the arguments mean. Raises: NotFound; IntegrityError; RestoreError; StoreErrors."""
    offset_map = await _map(args, store)
    snapshot = await _snapshot(args, store)
    if not snapshot.groups:
        remark("note: no group had committed an offset in the topics of this backup when it was saved.")
    return await in_thread(plan_groups, snapshot, offset_map, args.groups)


async def _map(args: argparse.Namespace, store: Store | None) -> OffsetMap:
    if args.map:
        return OffsetMap.decode(_file(args.map), str(args.map))
    assert store is not None, "without a store there is a file"
    key = f"{RESTORES}{args.restore}{_MAP}" if args.restore else await newest_map(store)
    try:
        data = await store.read(key)
    except NotFound:
        raise MapMissing(
            f"{store.name}/{key} is not there: `tallykeep kafka restore` writes it when it is done. Give --restore ID "
            "of one that is, or --map FILE (offset-map.json in the restore's state folder)."
        ) from None
    return await in_thread(OffsetMap.decode, data, f"{store.name}/{key}")


async def newest_map(store: Store) -> str:
    """Key of the map that was stored last. Raises: MapMissing; StoreErrors."""
    found = [info async for page in store.list(RESTORES) for info in page if info.key.endswith(_MAP)]
    if not found:
        raise MapMissing(
            f"{store.name} has no offset map: nothing was restored from it yet, or the restore could not write here. "
            "Give --map FILE (offset-map.json in the restore's state folder)."
        )
    return max(found, key=lambda info: (info.modified, info.key)).key


async def _snapshot(args: argparse.Namespace, store: Store | None) -> Snapshot:
    if args.snapshot:
        return group_snapshot.decode(_file(args.snapshot), str(args.snapshot))
    assert store is not None, "without a store there is a file"
    try:
        return await (await BackupSet.open(store, SystemClock())).snapshot()
    except NotFound as error:
        raise SnapshotMissing(str(error)) from None


async def _saved(args: argparse.Namespace) -> tuple[Snapshot, str]:
    settings = target_cluster(args) if args.side == "target" else source_cluster(args)
    if settings is None:
        raise ConfigError("give --config FILE with source.bootstrap_servers: whose offsets?")
    store = None if args.output else open_backup(args)
    cluster = await Cluster.open(settings)
    try:
        saved = await group_snapshot.group_snapshot(cluster, SystemClock(), args.groups)
        return saved, await _keep(saved, args.output, store)
    finally:
        await cluster.close()
        if store is not None:
            await store.close()


async def _keep(saved: Snapshot, output: Path | None, store: Store | None) -> str:
    """Where it is kept now."""
    data = group_snapshot.encode(saved)
    if store is None:
        assert output is not None, "a file or a store"
        await in_thread(_write, output, data)
        return str(output)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(saved.time))
    key = f"{group_snapshot.FOLDER}{moment}-{digest(data).rpartition(':')[2][:16]}.json"
    await store.create(key, data)
    return f"{store.name}/{key}"


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.") from None


def _write(path: Path, data: bytes) -> None:
    """Put the file there whole, or leave what was there."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from None
