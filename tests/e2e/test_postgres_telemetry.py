"""What commands of `tallykeep postgres` send: their spans, and nothing that is in the way of a server or a restore."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

CONFIG = """\
telemetry: {service_name: test, traces_exporter: console, metrics_exporter: prometheus, prometheus_port: PORT}
postgres: {archive: archive, clusters: [{name: main}]}
"""
NAME = "000000010000000000000001"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that a server listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An archive that holds no WAL yet."""
    main = tmp_path / "archive" / "main"
    (main / "wal").mkdir(parents=True)
    (main / "identity.json").write_text('{"system_id": "7", "segment_size": 16777216}')
    return tmp_path


def tallykeep(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `tallykeep postgres`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYKEEP_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-m", "tallykeep", "postgres", *words], capture_output=True, text=True, check=False,
        cwd=folder, env={**kept, "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1", **variables}, timeout=150,
    )  # fmt: skip


def test_a_command_sends_its_spans_and_leaves_the_port_to_the_server(folder: Path, taken: int) -> None:
    """By tallykeep.yaml: a span of get-wal on the console; the listener of figures is the server's, which runs."""
    (folder / "tallykeep.yaml").write_text(CONFIG.replace("PORT", str(taken)))
    done = tallykeep(folder, "get-wal", "--config", "tallykeep.yaml", NAME, "target")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["name"] == "get_wal"


def test_telemetry_that_cannot_be_used_ends_no_recovery(folder: Path) -> None:
    """A certificate that is not there: get-wal says so, and answers all the same."""
    done = tallykeep(
        folder, "get-wal", "--cluster", "main", NAME, "target", TALLYKEEP_POSTGRES_ARCHIVE="archive",
        OTEL_TRACES_EXPORTER="otlp", OTEL_SERVICE_NAME="test", OTEL_EXPORTER_OTLP_CERTIFICATE="/nowhere/ca.crt",
        OTEL_EXPORTER_OTLP_ENDPOINT="https://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 1 and "ca.crt cannot be read" in done.stderr, done.stderr
