"""The spans of a base backup that fails, in each of its phases, as the SDK records them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.support.postgres_wal import KEY, Receiving, place, primary

from tallykeep.clock import SystemClock
from tallykeep.config.model import Secret
from tallykeep.errors import IntegrityError, RestoreError
from tallykeep.metrics import Book
from tallykeep.runtime import tracing
from tallykeep.systems.postgres import backing_up, keyfile
from tallykeep.systems.postgres.backing_up import run_backup
from tallykeep.systems.postgres.cluster import Cluster, clusters_of, prepare
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.settings import BackupSettings, ClusterSettings, PostgresSettings, Tier2Settings
from tallykeep.telemetry.traces import SpanRecorder
from tallykeep.telemetry.words import Account

__all__ = ["place"]
pytestmark = pytest.mark.server
CLOCK = SystemClock()
Told = dict[str, tuple[StatusCode, int]]  # by name: its status, and how many errors it recorded


@contextmanager
def recorded(told: Told) -> Iterator[None]:
    """Put what was recorded into `told`."""
    exporter = InMemorySpanExporter()
    recorder = SpanRecorder(exporter, Resource({}), Account("traces", "here", Book()), CLOCK.time)
    restore = tracing.install(recorder)
    try:
        yield
    finally:
        restore()
        recorder._provider.force_flush()
        spans = [span for span in exporter.get_finished_spans() if _tracer_of(span) == "klio.backup"]
        told |= {span.name: said(span) for span in spans}


def _tracer_of(span: ReadableSpan) -> str:
    return "" if span.instrumentation_scope is None else span.instrumentation_scope.name


def said(span: ReadableSpan) -> tuple[StatusCode, int]:
    """How it ended."""
    assert span.attributes is not None and span.attributes["backup.name"] == "tuesday"
    return span.status.status_code, len([event for event in span.events if event.name == "exception"])


async def test_a_failure_stands_in_the_span_of_its_phase(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run and verify fail with the whole backup; what fails in maintenance is told there, and the backup is there."""
    monkeypatch.setattr(backing_up, "ALONE", 0.1)
    with primary(place) as server:
        wanted = PostgresSettings(
            archive=tmp_path,
            key=Secret(keyfile.to_text(KEY)),
            clusters=(ClusterSettings("main", Secret(server.dsn())),),
        )
        [cluster] = clusters_of(wanted)
        await prepare(cluster)
        failed, broken, unkept = Told(), Told(), Told()
        with recorded(failed), pytest.raises(RestoreError, match="nobody receives it"):
            await run_backup(cluster, wanted, CLOCK, "tuesday")
        manifest = tmp_path / "tier2" / "main" / "base" / "manifest"
        manifest.mkdir(parents=True)
        (manifest / "0000000001.json").write_text("{}")
        with Receiving(server.dsn(), cluster.folder, cluster.cipher) as receiving:
            receiving.until(lambda archiver: archiver.durable > 0)
            with recorded(unkept):
                [both] = clusters_of(unverified := replace(
                    wanted, tier2=Tier2Settings(url=str(tmp_path / "tier2")), backup=BackupSettings(verify=False)
                ))  # fmt: skip
                await run_backup(both, unverified, CLOCK, "tuesday")
            monkeypatch.setattr(backing_up, "wait_for_wal", damage_packs)
            with recorded(broken), pytest.raises(IntegrityError, match="not what was sent"):
                await run_backup(cluster, wanted, CLOCK, "tuesday")
        await cluster.close()
    error, well = (StatusCode.ERROR, 1), (StatusCode.UNSET, 0)
    assert failed == {"backup": error, "backup_run": error}
    assert broken == {"backup": error, "backup_run": well, "backup_verify": error}
    assert unkept == {"backup": well, "backup_run": well, "backup_maintenance": error}
    done = Journal(cluster.folder).read().backups
    assert (done.successes, done.failures, done.verification_failures) == (1, 2, 1)


async def damage_packs(cluster: Cluster, *_: object) -> None:
    """What a disk may do."""
    for pack in [path for path in (cluster.folder / "base" / "packs").rglob("*") if path.is_file()]:
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
