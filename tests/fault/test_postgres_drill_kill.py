"""A drill that is killed or interrupted, by command: no process stays, and the next drill clears what was left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.support.postgres_drill import Protected, command, processes, protected, scratched  # noqa: F401 - a fixture
from tests.support.postgres_wal import place, wait  # noqa: F401 - a fixture

pytestmark = pytest.mark.server


def configured(found: Protected, path: Path, question: str) -> Path:
    """A tallykeep.yaml with one question."""
    path.write_text(
        f"postgres:\n  archive: {found.settings.archive}\n  key_file: {found.settings.key_file}\n"
        f"  clusters: [{{name: main}}]\n  drill: {{questions: [{{sql: {question}, expected: t}}]}}\n"
    )
    return path


@pytest.mark.parametrize("stage", ["recovery", "questions"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
async def test_a_drill_that_ends_early(
    place: Path,  # noqa: F811
    protected: Protected,  # noqa: F811
    stage: str,
    number: signal.Signals,
) -> None:
    """PostgreSQL dies with the drill, also while it waits for WAL that does not come; what was left is cleared."""
    protected = protected.at(place / "archive")
    long = configured(protected, place / "long.yaml", "SELECT pg_sleep(600)")
    begun = next(each for each in protected.cluster.archive.segments() if each.segment.name.endswith("2"))
    wal, kept = begun.paths[0], begun.paths[0].with_suffix(".kept")
    if stage == "recovery":  # the segment that the backup begins in can be read without end
        wal.rename(kept)
        os.mkfifo(wal)
    with command("drill", long) as drill:
        assert drill.stdout is not None
        assert drill.stderr is not None
        if stage == "recovery":
            wait(lambda: bool(processes(f"{place}/archive/scratch/main/drill-", "fetch.sh")))
        else:
            while "asking questions" not in (line := drill.stderr.readline()):
                assert line, drill.stdout.read()
        drill.send_signal(number)
        assert drill.wait(60) == (-9 if number is signal.SIGKILL else 130)
    wait(lambda: not processes(str(place / "archive")), told=lambda: str(processes(str(place / "archive"))))
    if number is signal.SIGINT:
        assert not scratched(protected)
        return
    assert len(scratched(protected)) == 1
    if stage == "recovery":
        kept.replace(wal)
    with command("drill", configured(protected, place / "short.yaml", "SELECT true"), "--json") as again:
        told, complaints = again.communicate(timeout=150)
    assert again.returncode == 0, complaints
    [result] = json.loads(told)
    assert (result["outcome"], result["recovered_lsn"]) == ("ok", result["held_lsn"])
    assert not scratched(protected)
