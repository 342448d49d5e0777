"""Replica URLs are read as Litestream reads them, and no secret in them is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallykeep.systems.litestream.urls import OTHER_KINDS, masked, parse_replica, s3_replica

POINT = "arn:aws:s3:us-east-2:123456789012:accesspoint/point"
S3_FORMS = [
    # URL, bucket, prefix, endpoint, region, path style
    ("s3://bkt/a/b", "bkt", "a/b", "", "", False),
    ("s3://bkt", "bkt", "", "", "", False),
    ("s3://bkt//a/./b/../c/", "bkt", "a/c", "", "", False),
    ("s3://bkt/a%20b", "bkt", "a b", "", "", False),
    ("s3://bkt/p?endpoint=https://minio.example:9000", "bkt", "p", "https://minio.example:9000", "", True),
    ("s3://bkt/p?endpoint=localhost:9000&region=eu", "bkt", "p", "http://localhost:9000", "eu", True),
    ("s3://bkt/p?endpoint=192.168.1.7:9000", "bkt", "p", "http://192.168.1.7:9000", "", True),
    ("s3://bkt/p?endpoint=s3.example.com", "bkt", "p", "https://s3.example.com", "", True),
    ("s3://bkt/p?endpoint=https://e.example&forcePathStyle=false", "bkt", "p", "https://e.example", "", False),
    ("s3://bkt/p?endpoint=https://e.example&force-path-style=false", "bkt", "p", "https://e.example", "", False),
    ("s3://bkt/p?forcePathStyle=true", "bkt", "p", "", "", True),
    ("s3://bkt.localhost:9000/db", "bkt", "db", "http://localhost:9000", "us-east-1", True),
    ("s3://bkt.minio.local:9000/db", "bkt", "db", "http://minio.local:9000", "us-east-1", True),
    ("s3://bkt.s3.eu-west-1.amazonaws.com/db", "bkt", "db", "", "eu-west-1", False),
    ("s3://bkt.s3.amazonaws.com/db", "bkt", "db", "", "", False),
    ("s3://my.bkt.s3.amazonaws.com/db", "my.bkt", "db", "", "", False),
    ("s3://bkt.nyc3.digitaloceanspaces.com/db", "bkt", "db", "https://nyc3.digitaloceanspaces.com", "nyc3", False),
    ("s3://bkt.s3.us-west-000.backblazeb2.com/db", "bkt", "db", "https://s3.us-west-000.backblazeb2.com",
     "us-west-000", True),
    ("s3://bkt.s3.filebase.com/db", "bkt", "db", "https://s3.filebase.com", "", True),
    ("s3://bkt.s3.fr-par.scw.cloud/db", "bkt", "db", "https://s3.fr-par.scw.cloud", "fr-par", False),
    ("s3://bkt/db?endpoint=https://0a1b.r2.cloudflarestorage.com", "bkt", "db",
     "https://0a1b.r2.cloudflarestorage.com", "", True),
    ("s3://bkt/db?endpoint=https://fly.storage.tigris.dev&region=auto", "bkt", "db",
     "https://fly.storage.tigris.dev", "auto", True),
    (f"s3://{POINT}/a/b", POINT, "a/b", "", "us-east-2", False),
    (f"s3://{POINT}?region=eu", POINT, "", "", "eu", False),
]  # fmt: skip


@pytest.mark.parametrize(("url", "bucket", "prefix", "endpoint", "region", "path_style"), S3_FORMS)
def test_every_form_of_an_s3_url(
    url: str, bucket: str, prefix: str, endpoint: str, region: str, path_style: bool
) -> None:
    """Bucket, prefix, endpoint, region and path style are those Litestream would use."""
    replica = parse_replica(url)
    assert replica.kind == "s3"
    assert (replica.bucket, replica.prefix, replica.endpoint) == (bucket, prefix, endpoint)
    assert (replica.region, replica.path_style, replica.skip_verify) == (region, path_style, False)


@pytest.mark.parametrize("name", ["skipVerify", "skip-verify"])
def test_tls_verification_can_be_skipped_in_both_spellings(name: str) -> None:
    """`skipVerify=true` and `skip-verify=true` mean the same."""
    assert parse_replica(f"s3://bkt/p?{name}=true").skip_verify


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/backup/omni", "/backup/omni"),
        ("file:///backup/omni", "/backup/omni"),
        ("file://backup/omni/", "/backup/omni"),
        ("file:///backup/omni?x=y", "/backup/omni"),
        ("file:///backup/my omni", "/backup/my%20omni"),
        ("file:///backup/my%20omni", "/backup/my%20omni"),
    ],
)
def test_a_file_replica_is_the_folder_litestream_writes_to(text: str, path: str) -> None:
    """Litestream 0.5 keeps the path of a file URL percent-encoded: its folder really is named my%20omni."""
    assert parse_replica(text).path == Path(path)


@pytest.mark.parametrize("kind", [*OTHER_KINDS, "webdavs"])
def test_other_kinds_are_recognized_and_not_readable(kind: str) -> None:
    """A kind of Litestream's that tallykeep cannot read is no mistake in the settings."""
    replica = parse_replica(f"{kind}://user:pa55@host:22/path")
    assert not replica.readable
    assert replica.kind == kind.rstrip("s") if kind == "webdavs" else replica.kind == kind
    assert "pa55" not in repr(replica)


@pytest.mark.parametrize("text", ["ftp://host/path", "s3://", "s3:///path", "s3://arn:aws:s3:eu:1:bucket/x", "file://"])
def test_what_is_no_replica_is_refused(text: str) -> None:
    """A scheme Litestream does not have, or a URL without bucket or path, is a mistake that is told."""
    with pytest.raises(ValueError, match=r"."):
        parse_replica(text)


@pytest.mark.parametrize(
    "url", ["s3://key:hunter2@bkt/p", "sftp://u:hunter2@h/p", "abs://hunter2@c/p", "s3://bkt/p?secret=hunter2"]
)
def test_secrets_in_urls_are_masked(url: str) -> None:
    """User, password and parameters of a URL are in no text made of it."""
    assert "hunter2" not in masked(url)
    assert "hunter2" not in f"{parse_replica(url)!s} {parse_replica(url)!r}"


def test_a_plain_path_is_shown_whole() -> None:
    """In a path "?", "#" and "@" are letters like any other."""
    assert masked("/backup/who? #1 @home") == "/backup/who? #1 @home"


def test_parts_are_completed_as_a_url_is() -> None:
    """Bucket, prefix and endpoint given one by one mean what the URL of them means."""
    parts = s3_replica("bkt", "/a/b/", "0a1b.r2.cloudflarestorage.com", "", None, False)
    assert parts == parse_replica("s3://bkt/a/b?endpoint=https://0a1b.r2.cloudflarestorage.com")
