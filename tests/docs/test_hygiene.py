"""What must not stand in files that everybody gets."""

from __future__ import annotations

import re
import subprocess

import pytest
from tests.support.documents import ROOT

# Written so that this file does not hold what it looks for.
_REGISTRIES = re.compile(
    r"(?:https?:|//)\S*(?:py" r"pi\.|python" r"hosted|npm" r"js|crates\." r"io|goproxy)", re.IGNORECASE
)
_MACHINE = re.compile(r"(?<![\w.])/(?:wo" r"rk|fa" r"rm|ro" r"ot|ho" r"me/\w+)/[\w.]+")


def tracked_texts() -> list[tuple[str, str]]:
    """Name and text of every text file that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the list of files comes from git")
    texts = []
    for name in filter(None, listed.stdout.split("\0")):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in data:
            texts.append((name, data.decode("utf-8", errors="replace")))
    return texts


def test_no_registry_hosts_and_no_machine_paths() -> None:
    """No tracked file names a package registry's host or a folder of somebody's machine."""
    found = [
        f"{name}: {match[0]}"
        for name, text in tracked_texts()
        for pattern in (_REGISTRIES, _MACHINE)
        for match in pattern.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_generated_rules_and_pages_carry_their_origin() -> None:
    """A generated page says that it is generated and by which command, so that nobody mends it by hand."""
    pages = [*ROOT.glob("docs/reference/*.md"), *ROOT.glob("deploy/prometheus/*.rules.yml")]
    silent = [str(p.relative_to(ROOT)) for p in pages if "make docs" not in p.read_text()[:400]]
    assert not silent
