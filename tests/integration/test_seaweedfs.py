"""The embedded S3 server: private to this machine, whole after a restart, and gone with its parent."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.workshop import keys_of

from tallykeep.demo.seaweedfs import SeaweedFS

pytestmark = pytest.mark.server


def _listeners(pid: int) -> list[str]:
    """Local addresses of the listening TCP sockets of a process, as /proc has them: hexadecimal, bytes reversed."""
    inodes = {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1])
    return found


def test_it_listens_on_loopback_only(seaweedfs: SeaweedFS) -> None:
    """Every port is 127.0.0.1's: nobody from outside can reach the demo or the tests."""
    addresses = [address.split(":")[0] for address in _listeners(seaweedfs.pid)]
    assert len(addresses) >= 8
    assert set(addresses) == {"0100007F"}


def test_its_environment_is_its_own(seaweedfs: SeaweedFS) -> None:
    """No setting of this process, AWS_* least of all, reaches the server."""
    names = {entry.split("=")[0] for entry in Path(f"/proc/{seaweedfs.pid}/environ").read_text().split("\0") if entry}
    assert names - {"LC_CTYPE"} == {"PATH", "HOME", "TMPDIR"}  # Python names a locale to its children where none is


async def test_it_is_the_same_after_a_restart(own_seaweedfs: SeaweedFS) -> None:
    """Stopped or killed, and started again, it has the same data at the same endpoint for the same credentials."""
    own_seaweedfs.create_bucket("kept")
    store = own_seaweedfs.s3_store("kept")
    await store.create("first", b"1")
    own_seaweedfs.stop()
    own_seaweedfs.start()
    await store.create("second", b"2")
    own_seaweedfs.kill()
    own_seaweedfs.start()
    assert await keys_of(store) == ["first", "second"]
    assert await store.read("second") == b"2"


def test_a_bucket_is_made_once(seaweedfs: SeaweedFS, bucket: str) -> None:
    """create_bucket leaves a bucket that is there as it is."""
    seaweedfs.create_bucket(bucket)


_PARENT = """
import sys, time
from pathlib import Path
from tallykeep.demo.seaweedfs import SeaweedFS
server = SeaweedFS(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


def test_it_dies_with_its_parent(tmp_path: Path, seaweedfs: SeaweedFS) -> None:
    """kill -9 of whoever started it ends it too: no test leaves a server behind."""
    assert seaweedfs.alive
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        server = Path(f"/proc/{int(parent.stdout.readline())}")
        command = (server / "cmdline").read_text()
        assert "weed" in command
        parent.kill()
        end = time.monotonic() + 60
        while _runs(server) and time.monotonic() < end:
            time.sleep(0.02)
        assert not _runs(server)
    for port in re.findall(r"port(?:\.grpc)?=(\d+)", command):  # nobody was left to do it
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            left.unlink()


def _runs(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between opening and reading
        return False
