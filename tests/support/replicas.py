"""Replicas for tests: the fixtures, listed; names made up; and a folder the real Litestream can read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tallykeep.demo.litestream import run_litestream
from tallykeep.storage.store import ObjectInfo

FIXTURES = Path(__file__).parents[1] / "fixtures" / "litestream"
LOCAL_DB = FIXTURES / "local" / "omni.db"
LOCAL_LTX = FIXTURES / "local" / ".omni.db-litestream" / "ltx"
CASES = sorted(folder.name for folder in (FIXTURES / "remote").iterdir())


def listing(root: Path) -> list[ObjectInfo]:
    """What a Store bound to `root` would list; files may come and go meanwhile."""
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError):
            state = path.stat()
            found.append(ObjectInfo(path.relative_to(root).as_posix(), state.st_size, state.st_mtime, None))
    return found


def replica(case: str) -> Path:
    """The folder of one damaged replica, in S3 layout."""
    return FIXTURES / "remote" / case


def entry(level: int, first: int, last: int | None = None, size: int = 200, modified: float = 0.0) -> ObjectInfo:
    """A listed file of the S3 layout."""
    return ObjectInfo(f"{level:04x}/{ltx_name(first, last)}", size, modified, None)


def ltx_name(first: int, last: int | None = None) -> str:
    return f"{first:016x}-{first if last is None else last:016x}.ltx"


def in_folder_layout(case: str, target: Path) -> Path:
    """Copy a fixture to where a file replica keeps it: `ltx/<decimal level>/`."""
    for folder in replica(case).iterdir():
        shutil.copytree(folder, target / "ltx" / str(int(folder.name, 16)))
    return target


def dry_run(root: Path, *options: str) -> tuple[list[tuple[int, str]], str]:
    """What Litestream itself would restore from a file replica: (level, name) in order, and its complaint."""
    done = run_litestream("restore", "-dry-run", "-json", *options, "-o", root / "restored.db", f"file://{root}")
    if done.returncode:
        return [], done.stderr.strip()
    plan: dict[str, Any] = json.loads(done.stdout)
    return [(file["level"], file["name"]) for file in plan["files"]], ""


def empty_files(root: Path, entries: Iterable[tuple[int, int, int]]) -> Path:
    """A file replica of empty files under made-up names (level, first, last): a dry run reads names alone."""
    for level in range(10):
        (root / "ltx" / str(level)).mkdir(parents=True, exist_ok=True)
    for level, first, last in entries:
        (root / "ltx" / str(level) / ltx_name(first, last)).touch()
    return root
