"""The block at the end of a backup and of a restore, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallykeep.systems.kafka.backup_request import BackupResult
from tallykeep.systems.kafka.manifest import GapEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.restore import RestoreResult
from tallykeep.systems.kafka.summary import (
    backup_json,
    backup_lines,
    duration,
    rate,
    restore_json,
    restore_lines,
)


def a_backup(**changes: object) -> BackupResult:
    values: dict[str, object] = {
        "run": "0" * 32, "topics": 12, "partitions": 96, "records": 2_456_789, "bytes": 1_258_815_488,
        "stored": 256_901_120, "segments": 101, "gaps": [], "new_incarnations": [], "seconds": 332.0,
        "interrupted": False, "unfinished": {}, **changes,
    }  # fmt: skip
    return BackupResult(**values)  # type: ignore[arg-type]


def test_the_published_block() -> None:
    """Title, rule and the four lines that users of kafka-backup know come first, in their order."""
    assert list(backup_lines(a_backup()))[:6] == [
        "Backup completed successfully",
        "────────────────────────────────",
        "Records:    2,456,789",
        "Duration:   5m 32s",
        "Throughput: 7,400 records/sec",
        "Compressed: 245.0 MiB (4.9x ratio)",
    ]


def test_what_is_wrong_is_said() -> None:
    """Gaps, topics made anew and partitions that were given up each have a line, and success is not claimed."""
    gap = GapEntry("orders", "0" * 32, 3, 10, 30, "log_start")
    lines = list(
        backup_lines(
            a_backup(gaps=[gap], new_incarnations=["users"], unfinished={Place("orders", 1): "no leader"}, stored=0)
        )
    )
    assert "successfully" not in lines[0]
    assert "Gap:        orders-3: offsets 10 to 29 were deleted before this run" in lines
    assert "Unfinished: orders-1: no leader" in lines
    assert any("users was deleted and made again" in line for line in lines)
    assert "Compressed: 0 B" in lines


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, "success"), ({"interrupted": True}, "interrupted"), ({"unfinished": {Place("a", 0): "x"}}, "failure")],
)
def test_programs_get_the_same(changes: dict[str, object], status: str) -> None:
    """The JSON can be written, and says how it ended."""
    body = json.loads(json.dumps(backup_json("daily", a_backup(**changes))))
    assert (body["status"], body["backup_id"], body["records"]) == (status, "daily", 2_456_789)


def test_the_end_of_a_restore() -> None:
    """What is in the target, what was sent now, and what was read back."""
    result = RestoreResult("ab-cd", 2, 6, records=500, sent=200, bytes=1 << 20, verified=500, seconds=2.0)
    result.offset_map = Path("/state/offset-map.json")
    result.notes.append("the store is read only")
    lines = list(restore_lines(result))
    assert lines[0] == "Restore completed successfully"
    assert "Sent now:   200" in lines
    assert "Throughput: 100 records/sec" in lines
    assert "Verified:   500 records read back and found equal" in lines
    assert "Note:       the store is read only" in lines
    assert json.loads(json.dumps(restore_json("daily", result)))["offset_map"] == "/state/offset-map.json"
    result.interrupted = True
    assert "interrupted" in next(restore_lines(result))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.96, "60.0s"), (332, "5m 32s"), (3600, "1h 0m 0s"), (3599.7, "1h 0m 0s")]
)
def test_durations(seconds: float, text: str) -> None:
    """Tenths below a minute, then minutes, then hours."""
    assert duration(seconds) == text


def test_a_rate_of_no_time() -> None:
    """Nothing is divided by nothing."""
    assert rate(5, 0) == "0"
