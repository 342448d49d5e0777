"""`tallykeep kafka list`, `describe`, `status` and `validate`: they look, and change nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import yaml

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import ConfigError, SourceError, TallykeepError
from tallykeep.metrics import Book
from tallykeep.runtime.signals import stop_requested
from tallykeep.runtime.telling import remark, tell
from tallykeep.storage.store import Store
from tallykeep.systems.kafka import families
from tallykeep.systems.kafka.config_file import has_file
from tallykeep.systems.kafka.describing import describe, describe_lines
from tallykeep.systems.kafka.failures import BadTopics, code_of, exit_status
from tallykeep.systems.kafka.figures import expect
from tallykeep.systems.kafka.listing import find_backups, overview, overview_lines, topic_lines, topics_of
from tallykeep.systems.kafka.reading import BackupSet
from tallykeep.systems.kafka.selecting import Selection
from tallykeep.systems.kafka.standing import behind, standing, standing_lines
from tallykeep.systems.kafka.validating import Expected, Report, validate
from tallykeep.systems.kafka.validation_report import report_json, report_lines
from tallykeep.systems.kafka.working import (
    INTERRUPTED,
    Work,
    open_backup,
    open_root,
    run_work,
    settings_of,
    source_cluster,
    told,
)

_UNSOUND = 6
_EVERY = 5.0  # seconds between two words on how far a validation has come


def run_list(args: argparse.Namespace) -> int:
    """`list`."""
    return told(args, lambda: asyncio.run(_topics(args) if args.backup_id else _backups(args)))


def run_describe(args: argparse.Namespace) -> int:
    """`describe`."""
    if problems := Selection(args.topic).problems():
        return told(args, lambda: _refuse(BadTopics(*problems)))
    return told(args, lambda: asyncio.run(_describe(args)))


def run_status(args: argparse.Namespace) -> int:
    """`status`."""
    return told(args, lambda: asyncio.run(_status(args)))


def run_validate(args: argparse.Namespace) -> int:
    """`validate`. With a settings file it has /metrics as other long commands have."""

    async def work(work: Work) -> int:
        expected = _expected(args)
        return await _validate(args, await work.store("validate"), work.book, work.stop, expected)

    async def alone() -> int:
        expected, store = _expected(args), open_backup(args)
        try:
            return await _validate(args, store, Book(), stop_requested(), expected)
        finally:
            await store.close()

    if args.path or not has_file(args.config):
        return told(args, lambda: asyncio.run(alone()))
    return run_work(args, work)


def _refuse(error: TallykeepError) -> int:
    raise error


async def _backups(args: argparse.Namespace) -> int:
    root, opened = open_root(args)
    found: list[dict[str, Any]] = []
    try:
        for backup_id in await find_backups(root):
            store = opened(backup_id)
            found.append(await _with(store, partial(overview, backup_id=backup_id, clock=SystemClock())))
        if not found:
            remark(f"{root.name} holds no backup.")
        tell(args, {"store": root.name, "backups": found}, overview_lines(found) if found else ())
    finally:
        await root.close()
    return _UNSOUND if any("problem" in one for one in found) else 0


async def _topics(args: argparse.Namespace) -> int:
    found = await _with(open_backup(args), _topics_in)
    tell(args, {"backup_id": args.backup_id, "topics": found}, topic_lines(found))
    return 0


async def _topics_in(store: Store) -> list[dict[str, Any]]:
    return topics_of(await BackupSet.open(store, SystemClock()))


async def _describe(args: argparse.Namespace) -> int:
    async def described(store: Store) -> dict[str, Any]:
        return await describe(await BackupSet.open(store, SystemClock()), _id(args), args.topic)

    body = await _with(open_backup(args), described)
    if args.topic and not body["topics"]:
        raise ConfigError(
            f"no topic of the backup is one of {', '.join(args.topic)}: `tallykeep kafka list -b` has all."
        )
    if args.format == "yaml" and not args.json:
        sys.stdout.write(yaml.safe_dump(body, sort_keys=False, allow_unicode=True))
        return 0
    args.json = args.json or args.format == "json"
    tell(args, body, describe_lines(body))
    return 0


async def _status(args: argparse.Namespace) -> int:
    store, clock, source = open_backup(args), SystemClock(), source_cluster(args)
    stop = stop_requested() if args.watch else asyncio.Event()
    try:
        async with _Source(source) as ask:
            while True:
                body, status = await _look(store, _id(args), clock, ask)
                _show(args, body)
                if not args.watch:
                    return status
                with suppress(TimeoutError):
                    async with asyncio.timeout(args.watch):
                        await stop.wait()
                    return 0
    finally:
        await store.close()


async def _look(
    store: Store, backup_id: str, clock: Clock, ask: Callable[[BackupSet], Awaitable[Any]]
) -> tuple[dict[str, Any], int]:
    """What there is to be told, and the status that it comes to."""
    backup = await BackupSet.open(store, clock)
    body = standing(backup, backup_id, clock.time())
    try:
        found = await ask(backup)
    except SourceError as error:
        body["source"] = {"code": code_of(error), "error": str(error)}
        return body, exit_status(error)
    if found is not None:
        body["source"] = found
    return body, 0


def _show(args: argparse.Namespace, body: dict[str, Any]) -> None:
    if args.watch and args.json:
        sys.stdout.write(json.dumps(body) + "\n")
        sys.stdout.flush()
        return
    if args.watch and sys.stdout.isatty():
        sys.stdout.write("\x1b[H\x1b[2J")
    tell(args, body, standing_lines(body))


class _Source:
    """The source, where the settings name one; connected when it is asked for the first time."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._cluster: Any = None

    async def __aenter__(self) -> Callable[[BackupSet], Awaitable[Any]]:
        return self._ask

    async def __aexit__(self, *_: object) -> None:
        if self._cluster is not None:
            await self._cluster.close()

    async def _ask(self, backup: BackupSet) -> dict[str, Any] | None:
        if self._settings is None:
            return None
        if self._cluster is None:
            from tallykeep.systems.kafka.cluster import Cluster

            self._cluster = await Cluster.open(self._settings)
        return await behind(backup, self._cluster)


async def _validate(
    args: argparse.Namespace, store: Store, book: Book, stop: asyncio.Event, expected: Expected | None
) -> int:
    expect(book, "validate")
    clock = SystemClock()
    told_at = clock.monotonic()

    def progress(report: Report) -> None:
        nonlocal told_at
        if not args.json and clock.monotonic() - told_at > _EVERY:
            told_at = clock.monotonic()
            remark(f"read {report.proved:,} of {report.segments:,} segments, {len(report.problems)} problems")

    try:
        report = await validate(store, clock, deep=args.deep, expected=expected, stop=stop, progress=progress)
    except TallykeepError as error:
        book.add(families.ERRORS, operation="validate", error_type=code_of(error))
        raise
    for problem in report.problems:
        book.add(families.ERRORS, operation="validate", error_type=problem.code)
    tell(args, report_json(_id(args), store, report), report_lines(_id(args), store, report))
    return _UNSOUND if report.problems else INTERRUPTED if report.interrupted else 0


def _expected(args: argparse.Namespace) -> Expected | None:
    if not args.expect_sequence:
        return None
    try:
        return Expected.parse(args.expect_sequence)
    except ValueError:
        raise ConfigError(
            f"--expect-sequence {args.expect_sequence!r} is not N or N:HASH, as `tallykeep kafka status` tells it."
        ) from None


def _id(args: argparse.Namespace) -> str:
    return str(args.backup_id or settings_of(args).backup_id)


async def _with(store: Store, work: Callable[[Store], Awaitable[Any]]) -> Any:
    """What `work` makes of a store, which is closed then."""
    try:
        return await work(store)
    finally:
        await store.close()
