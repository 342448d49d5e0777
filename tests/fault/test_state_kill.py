from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from tallykeep.runtime.state import StateDirectory

WRITER = """
import sys, pathlib
from tallykeep.runtime.state import StateDirectory
state = StateDirectory.open(pathlib.Path(sys.argv[1]))
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    number += 1
    state.write("entry", str(number).encode() * 5000)
    print(number, flush=True)
"""


def test_kill_9_leaves_the_old_entry_or_the_new_one(tmp_path: Path) -> None:
    """After kill -9 at any moment an entry is whole: the last one acknowledged, or the one then being written."""
    seeded, last = random.Random(7), 0
    for _ in range(8):
        argv = [sys.executable, "-c", WRITER, str(tmp_path), str(last)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(seeded.uniform(0, 0.05))
            writer.kill()
            acknowledged = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        last = acknowledged[-1] if acknowledged else last
        state = StateDirectory.open(tmp_path)
        found = state.read("entry")
        state.close()
        assert found in ([str(n).encode() * 5000 for n in (last, last + 1)] if last else [None, b"1" * 5000])
        assert not list(tmp_path.glob("*.new"))
        last = int(found[: len(found) // 5000]) if found else last
