"""Recovery that is killed again and again, with the process that fetches ahead: every row comes back all the same."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_majors import MajorServer
from tests.support.postgres_restore import SETTINGS, Kept, in_recovery, numbers, program
from tests.support.postgres_wal import place, wait

from tallykeep.errors import Unreachable
from tallykeep.systems.postgres.lsn import is_segment_name
from tallykeep.systems.postgres.restoring.recovery import SPOOL

__all__ = ["place"]
pytestmark = [pytest.mark.server, pytest.mark.chaos, pytest.mark.timeout(400)]
MAJOR, SEGMENTS = 18, 14
COUNTING = """echo "$@" >> {calls}
"$0" "$@" || exit
while set -- {spool}/0* && [ ! -e "$1" ]; do  # however long the feeder takes to start, and the disk: while it is there
    [ -e {spool}/lock ] && flock --nonblock --shared {spool}/lock true && exit
    sleep 0.05
done
"""


async def test_recovery_under_kills(place: Path) -> None:
    """kill -9 of the server, of the feeder, or of both, at random moments; the spool serves most of the segments."""
    kept = Kept(place)
    with MajorServer(MAJOR, place / "primary", SETTINGS) as server, kept.receiving(server):
        kept.write(server, 1)
        await kept.back_up(server, "only")
        for _ in range(SEGMENTS):
            kept.write(server, 1)
            with psycopg.connect(server.dsn(), autocommit=True) as db:
                db.execute("SELECT pg_switch_wal()")
    kept.hand_over()
    calls = place / "calls"
    calls.touch(mode=0o666)
    calls.chmod(0o666)
    counting = ("/bin/sh", "-c", COUNTING.format(calls=calls, spool=SPOOL), *program())
    await kept.restore(place / "calm/data", program=counting)
    calm = _server(place / "calm")
    with calm:
        _recovered(calm, kept)
    given = {name for name in calls.read_text().split() if is_segment_name(name)}
    assert 0 < len(given) < SEGMENTS, "each segment had a process of its own"
    assert not _feeders(kept), "it ends with the recovery"
    await kept.restore(place / "killed/data")
    random_, killed = random.Random(5), _server(place / "killed")
    for _ in range(5):
        with suppress(Unreachable):
            killed.start(1 + random_.random())
        await asyncio.sleep(random_.random() / 2)
        for pid in _feeders(kept) if random_.random() < 0.7 else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.kill()
    killed.start(120)
    _recovered(killed, kept)
    killed.stop()


def _server(folder: Path) -> MajorServer:
    folder.chmod(0o711)
    return MajorServer(MAJOR, folder, SETTINGS)


def _recovered(server: MajorServer, kept: Kept) -> None:
    wait(lambda: not in_recovery(server), 60, lambda: server.log.read_text()[-2000:])
    assert numbers(server) == [row.number for row in kept.rows]
    wait(lambda: not (server.data / SPOOL).exists())
    wait(lambda: not _feeders(kept))


def _feeders(kept: Kept) -> list[int]:
    """Processes that fetch ahead for this archive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"--feed" in words and str(kept.config).encode() in words:
                found.append(int(path.parent.name))
    return found
