"""The restore's guide names every finding that preflight can have."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_findings_are_documented() -> None:
    """Each code stands in the guide under what it is, and no other does."""
    source = "".join((ROOT / f"src/tallykeep/systems/kafka/{n}.py").read_text() for n in ("restore_plan", "preflight"))
    calls = re.findall(r'Finding\(\s*"(\w+)".*?\)\s*(?:\n|$)', source, re.DOTALL)
    page = (ROOT / "docs/guide/kafka-restore.md").read_text().split("## What preflight says")[1]
    rows = [code for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)]
    assert sorted(set(calls)) == sorted(rows)
