"""Variables that get-wal needs where PostgreSQL runs it: written down, unless they are secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallykeep.systems.postgres.restoring.environment import passed_on, withheld
from tallykeep.systems.postgres.settings import PostgresSettings, Tier2Settings

GIVEN = {
    "TALLYKEEP_POSTGRES_URL": "host=x password=secret",
    "TALLYKEEP_POSTGRES_KEY": "secret",
    "TALLYKEEP_POSTGRES_S3_ACCESS_KEY_ID": "id",
    "TALLYKEEP_POSTGRES_S3_SECRET_ACCESS_KEY_FILE": "secrets/s3",
    "TALLYKEEP_POSTGRES_S3_REGION": "eu-central-1",
    "TALLYKEEP_POSTGRES_ARCHIVE": "archive",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "secret",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "AZURE_STORAGE_CONNECTION_STRING": "secret",
    "HOME": "/root",
}


def test_no_secret_is_written_down_and_each_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are made absolute, files of secrets are passed on by their names."""
    monkeypatch.chdir(tmp_path)
    settings = PostgresSettings(archive=Path("archive"), tier2=Tier2Settings(url="bucket"))
    assert sorted(passed_on(GIVEN, settings)) == [
        "AWS_WEB_IDENTITY_TOKEN_FILE=/token",
        f"TALLYKEEP_POSTGRES_ARCHIVE={tmp_path}/archive",
        "TALLYKEEP_POSTGRES_S3_REGION=eu-central-1",
        f"TALLYKEEP_POSTGRES_S3_SECRET_ACCESS_KEY_FILE={tmp_path}/secrets/s3",
        f"TALLYKEEP_POSTGRES_TIER2={tmp_path}/bucket",
    ]
    assert sorted(withheld(GIVEN)) == [
        "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_CONNECTION_STRING", "TALLYKEEP_POSTGRES_KEY",
        "TALLYKEEP_POSTGRES_S3_ACCESS_KEY_ID",
    ]  # fmt: skip
