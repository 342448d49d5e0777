"""What every Kafka command does around its work: settings, stores, clusters, /metrics, errors with their codes.

Exit statuses and error codes are those that users of kafka-backup know; failures.py has them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import ConfigError, TallykeepError
from tallykeep.metrics import Book
from tallykeep.runtime.signals import stop_requested
from tallykeep.runtime.telling import remark
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store
from tallykeep.systems.kafka import failures
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.cluster import Cluster, ClusterSettings
from tallykeep.systems.kafka.config_file import has_file, read_settings
from tallykeep.systems.kafka.failures import Missing
from tallykeep.systems.kafka.families import FAMILIES
from tallykeep.systems.kafka.figures import Operation
from tallykeep.systems.kafka.memory import keep_large_blocks
from tallykeep.systems.kafka.settings import ClusterSection, KafkaSettings
from tallykeep.systems.kafka.stores import of_path, open_store

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Work:
    """What long commands work with."""

    settings: KafkaSettings
    book: Book
    clock: Clock
    stop: asyncio.Event
    stack: AsyncExitStack

    async def store(self, operation: Operation, *, make: bool = False) -> Store:
        """The backup's store, closed in the end. Raises: ConfigError; StoreErrors."""
        storage, backup_id = self.settings.storage, self.settings.backup_id
        store = await in_thread(open_store, storage, backup_id, book=self.book, operation=operation, make=make)
        self.stack.push_async_callback(store.close)
        return store

    async def cluster(self, section: ClusterSection, name: str) -> tuple[Cluster, Brokers]:
        """A cluster, open until the end. Raises: ConfigError; SourceErrors."""
        settings = cluster_settings(section, name)
        cluster = await Cluster.open(settings)
        self.stack.push_async_callback(cluster.close)
        brokers = Brokers(settings.security, timeout=settings.timeout)
        self.stack.push_async_callback(brokers.close)
        return cluster, brokers


def run_work(args: argparse.Namespace, work: Callable[[Work], Coroutine[Any, Any, int]]) -> int:
    """Run `work` with settings and /metrics. What it goes wrong with is told with its code, and becomes the status."""
    keep_large_blocks()  # before the first thread: those that are there already keep their own blocks
    return told(args, lambda: asyncio.run(_worked(args, work)))


def told(args: argparse.Namespace, work: Callable[[], int]) -> int:
    """What `work` returns; an error is told on standard error (and with --json on standard output) with its code."""
    try:
        return work()
    except TallykeepError as error:
        return _told(args, error)


def _told(args: argparse.Namespace, error: TallykeepError) -> int:
    """Say what went wrong; the status for it."""
    code = failures.code_of(error)
    if getattr(args, "json", False):
        body = {"status": "failure", "error": {"code": code, "message": str(error)}}
        sys.stdout.write(json.dumps(body) + "\n")
        sys.stdout.flush()
    remark(*(f"{code}: {line}" for line in str(error).splitlines()))
    return failures.status_of(code)


async def _worked(args: argparse.Namespace, work: Callable[[Work], Coroutine[Any, Any, int]]) -> int:
    settings = settings_of(args)
    remark(*(f"note: {needless}" for needless in settings.needless()))
    book, metrics = Book(), settings.metrics
    port = metrics.port if metrics.enabled else None
    async with AsyncExitStack() as stack:
        stop = stop_requested()
        url = await stack.enter_async_context(args.serve_metrics(book, FAMILIES, metrics.bind_address, port))
        if url and not getattr(args, "quiet", False):
            remark(f"metrics are at {url}metrics")
        try:
            status = await _counted(work, settings, book, stop)
        except TallykeepError as error:  # told now: the page stays up after it, so that it is seen there too
            status = _told(args, error)
        if metrics.keep_alive_seconds and url:
            await _wait(stop, metrics.keep_alive_seconds)
        return status


async def _counted(
    work: Callable[[Work], Coroutine[Any, Any, int]], settings: KafkaSettings, book: Book, stop: asyncio.Event
) -> int:
    async with AsyncExitStack() as stack:
        return await work(Work(settings, book, SystemClock(), stop, stack))


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def settings_of(args: argparse.Namespace) -> KafkaSettings:
    """The settings of a command that cannot do without. Raises: ConfigError."""
    if not has_file(args.config):
        raise Missing("give --config FILE: mode, backup_id, source or target, and storage are needed.")
    return _named(read_settings(args.config, args.load_config), getattr(args, "backup_id", None))


def open_backup(args: argparse.Namespace) -> Store:
    """The store of one backup: from --config, or from -p PATH and -b ID. Raises: ConfigError; StoreErrors."""
    if args.path:
        if not args.backup_id:
            raise Missing("give -b ID beside -p PATH: which backup? `tallykeep kafka list -p PATH` names them.")
        return open_store(of_path(args.path), args.backup_id)
    settings = settings_of(args)
    return open_store(settings.storage, settings.backup_id)


def open_root(args: argparse.Namespace) -> tuple[Store, Callable[[str], Store]]:
    """The store that holds all backups, and what opens one of them. Raises: ConfigError; StoreErrors."""
    storage = of_path(args.path) if args.path else _storage(args)
    return open_store(storage), lambda backup_id: open_store(storage, backup_id)


def source_cluster(args: argparse.Namespace) -> ClusterSettings | None:
    """The cluster that is backed up, where the settings name one."""
    if not has_file(args.config):
        return None
    section = read_settings(args.config, args.load_config).source
    return cluster_settings(section, "source") if section.servers else None


def target_cluster(args: argparse.Namespace) -> ClusterSettings:
    """The cluster that is restored to. Raises: ConfigError."""
    return cluster_settings(settings_of(args).target, "target")


def cluster_settings(section: ClusterSection, name: str) -> ClusterSettings:
    """How to come to a cluster. Raises: ConfigError."""
    if not section.servers:
        raise Missing(f"{name}.bootstrap_servers is not given: which cluster?")
    try:
        security = section.security.security()
    except OSError as error:
        raise ConfigError(f"{name}.security: {error.filename} cannot be read: {error.strerror}") from None
    return ClusterSettings(section.servers, security, section.connection.timeout)


def _storage(args: argparse.Namespace) -> Any:
    if not has_file(args.config):
        raise Missing("give -p PATH (a folder or s3://bucket/prefix) or --config FILE: where are the backups?")
    return read_settings(args.config, args.load_config).storage


def _named(settings: KafkaSettings, backup_id: str | None) -> KafkaSettings:
    found = replace(settings, backup_id=backup_id) if backup_id else settings
    if not found.backup_id:
        raise Missing("backup_id is not given: in the file, or with -b ID.")
    if any(part in ("", ".", "..") for part in found.backup_id.split("/")) or "\\" in found.backup_id:
        raise ConfigError(f"backup_id {found.backup_id!r} cannot be part of a path.")
    return found
