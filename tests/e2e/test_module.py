"""The program as a module."""

from __future__ import annotations

import subprocess
import sys


def test_python_m_tallykeep() -> None:
    """`python -m tallykeep` is the program, exit status included."""
    for arguments, status in ((["version"], 0), (["no-such-command"], 2)):
        done = subprocess.run([sys.executable, "-m", "tallykeep", *arguments], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
