"""An open server ends with its command, however that ends; what a killed one has left is cleared by the next."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_drill import Protected, command, processes, protected, scratched  # noqa: F401 - a fixture
from tests.support.postgres_wal import place, wait  # noqa: F401 - a fixture

pytestmark = pytest.mark.server


def opened(process: subprocess.Popen[str]) -> str:
    """The DSN that it tells, once it has."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return str(json.loads(line)["dsn"])


def test_the_end_of_an_open_server(place: Path, protected: Protected) -> None:  # noqa: F811
    """Ctrl-C ends it with 0 and leaves nothing; after kill -9 no process stays, and the next one clears up."""
    found = protected.at(place / "archive")
    config = place / "tallykeep.yaml"
    config.write_text(
        f"postgres:\n  archive: {found.settings.archive}\n  key_file: {found.settings.key_file}\n"
        "  clusters: [{name: main}]\n"
    )
    one, other = (command("open", config, "--json") for _ in range(2))
    with one, other, psycopg.connect(opened(one), autocommit=True) as db, psycopg.connect(opened(other)):
        db.execute("CREATE TABLE elsewhere AS SELECT 1 AS n")
        other.kill()
        assert other.wait(60) == -9
        one.send_signal(signal.SIGINT)
        assert one.wait(60) == 0
    wait(lambda: not processes(str(place / "archive")), told=lambda: str(processes(str(place / "archive"))))
    assert len(scratched(found)) == 1
    with command("open", config, "-q", "--", "sh", "-c", "kill -TERM $$") as third:
        complaints = third.communicate(timeout=150)[1]
    assert third.returncode == 128 + signal.SIGTERM, complaints
    assert not scratched(found)
