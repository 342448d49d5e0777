"""The 25 families of PostgreSQL protection and the spans of a backup, as a running server sends and shows them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.otlp import Received, attributes, points, receiving
from tests.support.postgres_cli import PATIENCE, Protection
from tests.support.postgres_wal import place, primary, wait

from tallykeep.demo.postgres import PostgresServer
from tallykeep.systems.postgres.families import PUBLISHED
from tallykeep.systems.postgres.figures import OUTCOMES

__all__ = ["place"]
pytestmark = pytest.mark.server

with (Path(__file__).parent / "data" / "metrics.tsv").open(newline="") as file:
    ROWS = {row["name"]: row for row in csv.DictReader(file, delimiter="\t") if row["system"] == "postgres"}
CHILDREN = {"backup_run", "backup_verify", "backup_maintenance"}
BLOCKS = {"receive_block", "write_block", "flush_block"}
SPANS = {"backup", "upload_backup", "upload_wal"} | CHILDREN | BLOCKS


@contextmanager
def protected(place: Path, tmp_path: Path, **variables: str) -> Iterator[tuple[PostgresServer, Protection]]:
    """A primary and its server with both tiers; a backup by it, and one that has failed: every family has a figure.

    The one that fails asks as a role that may not replicate.
    """
    with primary(place) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as db:
            db.execute("CREATE ROLE reader LOGIN")
        protection = Protection.of(tmp_path, server, TALLYKEEP_POSTGRES_TIER2=str(tmp_path / "tier2"))
        with protection.server(**variables):
            protection.backed_up()
            protection.run("backup", status=3, env={"TALLYKEEP_POSTGRES_URL": server.dsn("reader")})
            protection.until("klio_backup_failures_total", 1)
            protection.until('klio_consumer_written_total{cluster_name="default"}', 1)
            yield server, protection


def check_page(protection: Protection) -> None:
    """All 25 stand on /metrics under the standard translation of their names, with their labels and what happened."""
    wait(lambda: protection.page().get('klio_queue_messages{stream="tallykeep-wal"}') == 0, PATIENCE)
    page = protection.page()
    names = {series.partition("{")[0] for series in page}
    assert {family.name for family in PUBLISHED} <= names
    cluster, source = '{cluster_name="default"}', '{snapshot_source="default"}'
    assert page["klio_backup_running"] == 0 and page["klio_backup_successes_total"] == 1
    assert page["klio_backup_verifications_total"] == 1 and page["klio_backup_verification_failures_total"] == 0
    assert page["klio_backup_latest_failure_time_seconds"] > page["klio_backup_latest_completion_time_seconds"]
    assert page["klio_backup_latest_completion_time_seconds"] > page["klio_backup_latest_start_time_seconds"] - 3600
    assert page[f"klio_base_snapshots{source}"] == 1 and page[f"klio_base_latest_snapshot_dirs{source}"] > 10
    _check_further(page)
    listed = protection.told("list", "--tier", "1")[0]["backups"][0]
    assert page[f"klio_base_latest_snapshot_size_bytes{source}"] == listed["bytes"]
    assert page[f"klio_base_latest_snapshot_files{source}"] == listed["files"]
    stored = list((protection.cluster / "wal").rglob("0*"))
    assert page[f"klio_wal_written_total{cluster}"] <= len(stored)
    assert page[f"klio_wal_written_size_bytes_total{cluster}"] > 0


def _check_further(page: Mapping[str, float]) -> None:
    """What Klio's newer families know: outcomes, categories of failures, durations by stage, timelines, copies."""
    own = "tallykeep_postgres_"
    name = f'{own}backup_runs_total{{cluster_name="default",outcome='
    runs = {outcome: page[f'{name}"{outcome}"}}'] for outcome in OUTCOMES}
    assert runs == {"ok": 1, "failed": 1, "interrupted": 0}
    by = f'{own}backup_failures_by_category_total{{category="refused",cluster_name="default"}}'
    assert page[by] == 1
    assert page[f'{own}backup_stage_seconds{{cluster_name="default",stage="copy"}}'] >= 0, "of the one that failed"
    assert all(page[f'{own}wal_timeline{{cluster_name="default",tier="{tier}"}}'] == 1 for tier in "12")
    assert page[f'{own}offload_seconds_count{{cluster_name="default",kind="wal"}}'] >= 1


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_everything_arrives_at_a_receiver(place: Path, tmp_path: Path, protocol: str) -> None:
    """Names, units, attributes and meter are the contract's, on the page too; the spans of the backup, and its way
    through the queue."""
    with receiving(protocol) as received:
        variables = {
            "OTEL_SERVICE_NAME": "test", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_BSP_SCHEDULE_DELAY": "200",
        }  # fmt: skip
        with protected(place, tmp_path, **variables) as (_, protection):
            received.until(lambda: set(ROWS) <= set(received.found()), PATIENCE)
            received.until(lambda: {span.name for _, span in received.spans()} >= SPANS, PATIENCE)
            check_page(protection)
    check_metrics(received)
    check_spans([(scope, span) for scope, span in received.spans()])


def check_metrics(received: Received) -> None:
    """Every klio family as the contract has it."""
    found = {metric.name: (scope, metric) for scope, metric in received.scoped()}
    for name, row in ROWS.items():
        scope, metric = found[name]
        assert (scope, metric.unit) == ("klio", row["unit"]), name
        assert metric.WhichOneof("data") == ("sum" if row["type"] == "counter" else "gauge"), name
        wanted = [label for label in row["labels"].split(",") if label]
        assert all(list(attributes(point)) == wanted for point in points(metric)) and points(metric), name


def check_spans(spans: list[tuple[str, Any]]) -> None:
    """The root span and its children; the uploads of the same trace; and those of WAL."""
    of_backup = [span for scope, span in spans if scope == "klio.backup"]
    [root] = [span for span in of_backup if span.name == "backup"]
    assert attributes(root).keys() == {"backup.name"} and not root.parent_span_id
    children = [span for span in of_backup if span.name in CHILDREN]
    assert {span.name for span in children} == CHILDREN
    assert {span.parent_span_id for span in children} == {root.span_id}
    uploads = [span for scope, span in spans if scope == "klio.consumer" and span.name == "upload_backup"]
    assert root.trace_id in {span.trace_id for span in uploads}
    wal = {span.name for scope, span in spans if scope == "klio.wal"}
    assert wal >= BLOCKS
    assert any(span.name == "upload_wal" for scope, span in spans if scope == "klio.consumer")
