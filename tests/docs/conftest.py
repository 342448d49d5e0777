"""Fixtures of the docs tests."""

from __future__ import annotations

import csv

import pytest
from tests.support.documents import ROOT


@pytest.fixture(scope="session")
def contract_variables() -> frozenset[str]:
    """The names of the published environment variables."""
    with (ROOT / "tests/contract/data/environment.tsv").open(encoding="utf-8") as rows:
        return frozenset(row["variable"] for row in csv.DictReader(rows, delimiter="\t"))
