"""`tallykeep kafka backup` and `restore`: settings into requests, and results onto the screen."""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tallykeep.errors import ConfigError, TallykeepError
from tallykeep.runtime.telling import remark, tell
from tallykeep.runtime.tracing import tracer
from tallykeep.systems.kafka.backup_request import BackupRequest
from tallykeep.systems.kafka.display import Display
from tallykeep.systems.kafka.failures import BadTopics, BadWindow, PreflightRefused
from tallykeep.systems.kafka.figures import BackupFigures, ResetFigures, RestoreFigures
from tallykeep.systems.kafka.selecting import Selection
from tallykeep.systems.kafka.settings import KafkaSettings
from tallykeep.systems.kafka.summary import backup_json, backup_lines, restore_json, restore_lines
from tallykeep.systems.kafka.wire import Codec
from tallykeep.systems.kafka.working import INTERRUPTED, Work, run_work

if TYPE_CHECKING:
    from tallykeep.systems.kafka.cluster import Cluster
    from tallykeep.systems.kafka.offset_map import OffsetMap
    from tallykeep.systems.kafka.restore_plan import RestorePlan, RestoreRequest
    from tallykeep.systems.kafka.snapshot import Snapshot

T = TypeVar("T")

_tracer = tracer("tallykeep.kafka")
_UNFINISHED = 1
_PREFLIGHT = 6


def run_backup(args: argparse.Namespace) -> int:
    """`backup`."""

    async def work(work: Work) -> int:
        from tallykeep.systems.kafka.backup import back_up

        settings = work.settings
        _check_mode(settings, "backup")
        request = backup_request(settings)
        if problems := request.topics.problems():
            raise BadTopics(*problems)
        figures = BackupFigures(work.book, settings.backup_id, work.clock)
        cluster, brokers = await _counted(figures, work.cluster(settings.source, "source"))
        store = await _counted(figures, work.store("backup", make=True))
        shown = Display("backup", figures, interval=_interval(settings), silent=args.json or args.quiet)
        with _tracer.span("backup", {"backup.id": settings.backup_id}):
            async with shown:
                result = await back_up(request, cluster, brokers, store, work.clock, figures, work.stop)
        tell(args, backup_json(settings.backup_id, result), backup_lines(result))
        return INTERRUPTED if result.interrupted else _UNFINISHED if result.unfinished else 0

    return run_work(args, work)


def run_restore(args: argparse.Namespace) -> int:
    """`restore`."""

    async def work(work: Work) -> int:
        from tallykeep.systems.kafka.preflight import plan_restore
        from tallykeep.systems.kafka.reading import BackupSet
        from tallykeep.systems.kafka.restore import restore

        settings = work.settings
        _check_mode(settings, "restore")
        request = restore_request(settings)
        figures = RestoreFigures(work.book, settings.backup_id, work.clock)
        cluster, brokers = await _counted(figures, work.cluster(settings.target, "target"))
        store = await _counted(figures, work.store("restore"))
        backup = await _counted(figures, BackupSet.open(store, work.clock))
        plan = await _counted(figures, plan_restore(request, backup, cluster, work.clock))
        if args.dry_run or settings.restore.dry_run:
            tell(args, plan_json(plan), plan_lines(plan))
            return _PREFLIGHT if plan.fatal else 0
        if plan.fatal:
            await _counted(figures, _refused(plan))
        if not args.json:
            remark(*finding_lines(plan))
        groups = _group_setter(work, cluster) if request.reset_offsets else None
        shown = Display("restore", figures, interval=_interval(settings), silent=args.json or args.quiet)
        with _tracer.span("restore", {"backup.id": settings.backup_id, "restore.id": plan.id}):
            async with shown:
                result = await restore(plan, cluster, brokers, work.clock, figures, work.stop, groups=groups)
        if settings.restore.offset_report and result.offset_map:
            settings.restore.offset_report.write_bytes(result.offset_map.read_bytes())
        tell(args, restore_json(settings.backup_id, result), restore_lines(result))
        return INTERRUPTED if result.interrupted else 0

    return run_work(args, work)


def backup_request(settings: KafkaSettings) -> BackupRequest:
    """What the settings ask for."""
    backup, source = settings.backup, settings.source
    topics = Selection(
        source.topics.include, source.topics.exclude, backup.include_internal_topics, backup.internal_topics
    )
    return BackupRequest(
        topics=topics,
        start="latest" if backup.start_offset == "latest" else "earliest",
        groups=backup.consumer_group_snapshot,
        exact=backup.accounting == "exact",
        pack=Codec[backup.compression.upper()],
        level=backup.compression_level,
        segment_bytes=backup.segment_max_bytes,
        segment_records=backup.segment_max_records,
        segment_seconds=backup.segment_max_interval_ms / 1000,
        fetch_bytes=backup.fetch_max_bytes,
        partitions=backup.max_concurrent_partitions,
        lanes=source.connection.connections_per_broker,
        memory_bytes=backup.memory_max_bytes,
        patience=backup.patience,
    )


def restore_request(settings: KafkaSettings) -> RestoreRequest:
    """What the settings ask for."""
    from tallykeep.systems.kafka.restore_plan import RestoreRequest
    from tallykeep.systems.kafka.restoring.choosing import ALWAYS, Window

    wanted, topics = settings.restore, settings.target.topics
    first, last = wanted.time_window_start, wanted.time_window_end
    window = Window(ALWAYS.first if first is None else first, ALWAYS.last if last is None else last)
    if window.first > window.last:
        raise BadWindow(f"restore.time_window_start {first} lies after time_window_end {last}.")
    return RestoreRequest(
        state=wanted.checkpoint_state or _state_folder(settings),
        include=topics.include,
        exclude=topics.exclude,
        topic_mapping=wanted.topic_mapping,
        source_partitions=wanted.source_partitions,
        partition_mapping=wanted.partition_mapping,
        window=window,
        create_topics=wanted.create_topics,
        default_replication_factor=wanted.default_replication_factor,
        max_concurrent_partitions=wanted.max_concurrent_partitions,
        produce_timeout=wanted.produce_timeout_ms / 1000,
        verify=wanted.verify,
        groups=wanted.consumer_groups,
        reset_offsets=wanted.reset_consumer_offsets or wanted.consumer_group_strategy == "header-based",
    )


def finding_lines(plan: RestorePlan) -> Sequence[str]:
    """What preflight has found."""
    return [f"{'refused' if found.fatal else 'note'}: {found.code}: {found.message}" for found in plan.findings]


def plan_lines(plan: RestorePlan) -> Sequence[str]:
    """A restore that is not done, for people."""
    again = " (goes on with one that has begun)" if plan.state else ""
    head = f"restore {plan.id}{again}: at the most {plan.records:,} records of {len(plan.topics)} topics"
    topics = [
        f"  {topic.source.name} -> {topic.target}: {len(topic.routes)} partitions, "
        f"{sum(plan.surveys[route.target].records for route in topic.routes):,} records"
        for topic in plan.topics
    ]
    end = "nothing was changed: --dry-run" + ("; this restore would be refused" if plan.fatal else "")
    return [head, *topics, *finding_lines(plan), end]


def plan_json(plan: RestorePlan) -> dict[str, object]:
    """The same for programs."""
    return {
        "restore_id": plan.id,
        "resumes": plan.state is not None,
        "records": plan.records,
        "topics": [
            {
                "source": topic.source.name,
                "target": topic.target,
                "partitions": [
                    {
                        "source": route.source.partition,
                        "target": route.target.partition,
                        "records": plan.surveys[route.target].records,
                    }
                    for route in topic.routes
                ],
            }
            for topic in plan.topics
        ],
        "findings": [found._asdict() for found in plan.findings],
        "refused": bool(plan.fatal),
    }


def _group_setter(work: Work, cluster: Cluster) -> Callable[[Snapshot, OffsetMap], Awaitable[None]]:
    """What sets the offsets of consumer groups once the data is in."""
    from tallykeep.systems.kafka.group_offsets import apply_plan, check_outcomes, plan_groups

    async def set_groups(snapshot: Snapshot, offset_map: OffsetMap) -> None:
        plan = plan_groups(snapshot, offset_map, work.settings.restore.consumer_groups)
        check_outcomes(await apply_plan(cluster, plan, work.clock, ResetFigures(work.book)))

    return set_groups


async def _refused(plan: RestorePlan) -> None:
    raise PreflightRefused("\n".join(f"{found.code}: {found.message}" for found in plan.fatal))


async def _counted(figures: BackupFigures | RestoreFigures, work: Awaitable[T]) -> T:
    """`work`, before the engine counts errors itself."""
    try:
        return await work
    except TallykeepError as error:
        figures.failed(error)
        figures.finished("failure")
        raise


def _check_mode(settings: KafkaSettings, wanted: str) -> None:
    if settings.mode and settings.mode != wanted:
        raise ConfigError(f"mode is {settings.mode}: this file is not for `tallykeep kafka {wanted}`.")


def _interval(settings: KafkaSettings) -> float:
    return settings.metrics.update_interval_ms / 1000


def _state_folder(settings: KafkaSettings) -> Path:
    """Where restores are remembered that say nothing of it."""
    base = Path(os.environ.get("TALLYKEEP_STATE_DIR") or "data")
    return base / "kafka-restores" / settings.backup_id.replace("/", "_")
