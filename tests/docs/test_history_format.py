"""docs/formats/history.md describes the tables there are."""

from __future__ import annotations

import re
import sqlite3

from tests.support.documents import ROOT

from tallykeep.history import schema


def test_every_table_and_column_is_described() -> None:
    """Each table has its heading, and below it a row for each column, in order."""
    text = (ROOT / "docs/formats/history.md").read_text()
    described: dict[str, list[str]] = {}
    for heading, body in re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        columns = re.findall(r"^\| (\w+) \|", body, re.MULTILINE)
        for table in heading.partition(":")[0].split(" and "):
            described[table] = [column for column in columns if column != "column"]
    db = sqlite3.connect(":memory:", isolation_level=None)
    schema.create(db)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    assert described == {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in tables}
    assert f"{schema.APPLICATION:#x}" in text
    assert f"`user_version` {schema.FORMAT}" in text
    db.close()
