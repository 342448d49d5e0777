"""The journal of what was done: what is known of it counts, whoever wrote it, and damage costs nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallykeep.systems.postgres.journal import JOURNAL, Entries, Journal


def test_what_a_newer_version_wrote_is_kept_as_far_as_it_is_known(tmp_path: Path) -> None:
    """After a step back to an older tallykeep counts and times go on: a field that is not known is left out."""
    journal = Journal(tmp_path)
    journal.backups(successes=7)
    journal.verified("1", 5.0, "")
    journal.retained("2", 6.0, 3, 4)
    before = journal.read()
    found = json.loads((tmp_path / JOURNAL).read_text())
    for each in (found, found["backups"], found["verified"]["1"], found["retention"]["2"]):
        each["from_the_future"] = {"a": 1}
    (tmp_path / JOURNAL).write_text(json.dumps(found))
    assert journal.read() == before and before.backups.successes == 7


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"backups": 1}', '{"verified": {"1": 2}}'])
def test_a_damaged_journal_begins_anew(tmp_path: Path, text: str) -> None:
    """Cut, empty, or of another shape: counts begin anew, and what is done next is written down."""
    journal = Journal(tmp_path)
    (tmp_path / JOURNAL).write_text(text)
    assert journal.read() == Entries()
    journal.verified("1", 5.0, "a byte was changed")
    assert journal.read().verified["1"].problem == "a byte was changed"
