"""The C library's large blocks."""

from __future__ import annotations

import platform
import subprocess
import sys

_FAULTS = """
import resource
from tallykeep.systems.kafka.memory import keep_large_blocks
kept = keep_large_blocks()
size, faults = 48 << 20, []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytes(range(256)) * (size // 256)
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, faults[-1] < size // 4096 // 10)
"""


def test_large_blocks_are_used_again() -> None:
    """A block as large as a segment costs its page faults the first time only, where the C library is glibc."""
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    glibc = platform.libc_ver()[0] == "glibc"
    assert done.stdout.split() == [str(glibc), "True"] if glibc else done.stdout.startswith("False")
