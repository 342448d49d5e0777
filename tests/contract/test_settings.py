from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tallykeep.cli.sections import sections
from tallykeep.config.load import load, variables_of
from tallykeep.config.reference import settings_page

DATA = Path(__file__).parent / "data" / "environment.tsv"
with DATA.open(newline="") as file:
    ROWS = [row for row in csv.DictReader(file, delimiter="\t") if row["system"] in sections()]


def declared_defaults() -> dict[str, str]:
    return {name: field.shown for cls in sections().values() for name, field in variables_of(cls)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['system']}-{row['variable']}")
def test_published_variable_is_declared_with_its_default(row: dict[str, str]) -> None:
    """Each variable of the contract is a setting, with the default that is published."""
    assert declared_defaults()[row["variable"]] == row["default"]


def test_contract_has_rows() -> None:
    """The table was found and holds Litestream's eight variables."""
    assert len([row for row in ROWS if row["system"] == "litestream"]) == 8


def test_published_sidecar_describes_one_target() -> None:
    """The environment of the published compose file is one target named default, at the published interval."""
    environ = {
        "LOCAL_LTX_DIR": "/data/.omni.db-litestream/ltx",
        "S3_BUCKET": "my-bucket",
        "S3_PREFIX": "omni",
        "S3_ENDPOINT_URL": "https://account.r2.cloudflarestorage.com",
        "LITESTREAM_ACCESS_KEY_ID": "id",
        "LITESTREAM_SECRET_ACCESS_KEY": "hush",
        "METRICS_PORT": "9090",
        "SCRAPE_INTERVAL_SECONDS": "60",
    }
    config = load(sections(), environ)
    litestream = config.section("litestream")
    assert [target.name for target in litestream.targets] == ["default"]
    assert litestream.interval == 60
    assert litestream.asked_for()
    assert "hush" not in repr(config)


def test_variables_are_unique_and_told_in_the_reference() -> None:
    """No two settings share a variable, and the reference names each."""
    names = [name for cls in sections().values() for name, _ in variables_of(cls)]
    assert len(names) == len(set(names))
    page = settings_page(sections())
    assert all(f"`{name}`" in page for name in names)
