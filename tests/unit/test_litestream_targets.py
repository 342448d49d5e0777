"""Targets know their parts, and take credentials where Litestream takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError, Refused
from tallykeep.systems.litestream.settings import TargetSettings
from tallykeep.systems.litestream.targets import (
    Target,
    credentials,
    database_of,
    from_settings,
    local_folder,
    parse_target,
)  # fmt: skip
from tallykeep.systems.litestream.urls import parse_replica

KEYS = {"LITESTREAM_ACCESS_KEY_ID": "L", "LITESTREAM_SECRET_ACCESS_KEY": "l"}
AWS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "a", "AWS_SESSION_TOKEN": "t"}


@pytest.mark.parametrize(
    ("local", "database"),
    [
        ("/data/.omni.db-litestream/ltx", "/data/omni.db"),
        ("/data/1/.a-litestream-litestream/ltx", "/data/1/a-litestream"),
        ("/data/omni/ltx", None),
        ("/data/.omni.db-litestream", None),
    ],
)
def test_the_database_is_told_by_the_name_of_the_local_folder(local: str, database: str | None) -> None:
    """/x/.omni.db-litestream/ltx belongs to /x/omni.db; other names tell nothing."""
    assert database_of(Path(local)) == (Path(database) if database else None)


def test_credentials_of_the_environment_in_the_order_of_litestream() -> None:
    """AWS_* stand before LITESTREAM_*; a session token belongs to the former only; given keys stand before both."""
    assert credentials(KEYS | AWS) == ("A", Secret("a"), Secret("t"))
    assert credentials(KEYS) == ("L", Secret("l"), Secret(""))
    assert credentials(KEYS | AWS, "K", Secret("k")) == ("K", Secret("k"), Secret(""))
    assert credentials({}) == ("", Secret(""), Secret(""))


def test_the_published_variables_describe_one_target() -> None:
    """Bucket, prefix, endpoint and keys make the replica; the local folder names the database."""
    settings = TargetSettings(
        local=Path("/data/.omni.db-litestream/ltx"), bucket="my-bucket", prefix="omni",
        endpoint="https://acc.r2.cloudflarestorage.com", access_key_id="id", secret_access_key=Secret("hunter2"),
    )  # fmt: skip
    target = from_settings(settings, {})
    assert target.database == Path("/data/omni.db")
    assert target.place == "s3://my-bucket/omni"
    assert target.credentials == ("id", Secret("hunter2"), Secret(""))
    assert "hunter2" not in repr(target)


def test_what_stands_beside_a_url_wins() -> None:
    """Endpoint, region and TLS given beside a replica's URL are used, in tallykeep.yaml as in litestream.yml."""
    settings = TargetSettings(
        replica=parse_replica("s3://bkt/omni?region=eu"), endpoint="minio:9000", region="us", skip_verify=True
    )
    replica = from_settings(settings, {}).replica
    assert replica is not None
    assert (replica.endpoint, replica.region, replica.path_style, replica.skip_verify) == (
        "https://minio:9000", "us", True, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prefix": "omni"},
        {"endpoint": "https://x"},
        {"replica": parse_replica("s3://b/p"), "bucket": "b"},
    ],
)
def test_a_target_that_says_too_little_or_too_much_is_refused(fields: dict[str, object]) -> None:
    """Nothing to look at, a prefix without its bucket, or a replica given twice: each is told."""
    with pytest.raises(ValueError, match=r"give|mean"):
        TargetSettings(**fields)  # type: ignore[arg-type]


def test_a_kind_that_cannot_be_read_is_refused_when_it_is_opened() -> None:
    """The target exists and says why nothing can be told of it; no credential is in the message."""
    target = Target("x", replica=parse_replica("sftp://user:pa55@host/path"))
    with pytest.raises(Refused, match="not sftp") as refused:
        target.open()
    assert "pa55" not in str(refused.value)


def test_a_target_of_the_command_line(tmp_path: Path) -> None:
    """TARGET is a URL or a path; --local may name the LTX folder, the metadata directory or the database."""
    database = tmp_path / "omni.db"
    database.touch()
    folder = tmp_path / ".omni.db-litestream" / "ltx"
    folder.mkdir(parents=True)
    for path in (database, folder.parent, folder):
        target = parse_target("s3://u:p@bkt/omni", KEYS | {"LITESTREAM_S3_ENDPOINT": "localhost:9000"}, path)
        assert (target.local, target.database) == (folder, database)
    assert target.replica is not None
    assert (target.name, target.replica.endpoint) == ("s3://bkt/omni", "http://localhost:9000")
    assert parse_target(str(tmp_path), {}).replica == parse_replica(f"file://{tmp_path}")
    with pytest.raises(ConfigError, match="is a file"):
        parse_target(str(database), {})
    with pytest.raises(ConfigError, match="a replica is"):
        parse_target("ftp://host/x", {})


def test_local_folder_leaves_an_unknown_path_alone() -> None:
    """What is not there may be there later."""
    assert local_folder(Path("/nowhere/0")) == Path("/nowhere/0")
