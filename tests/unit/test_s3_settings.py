"""S3 settings: what they say of themselves, what they refuse, and what the client is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tallykeep.errors import ConfigError
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.s3 import S3Settings, presigned, s3_client

_KEYS = S3Settings("bucket", access_key="AKIA-id", secret_key="the-secret", session_token="the-token")


def test_no_secret_shows() -> None:
    """Neither the settings' repr nor the store's holds a secret."""
    settings = replace(_KEYS, endpoint="http://host", prefix="a/b")
    for text in (repr(settings), repr(CloudStore.s3(settings)), CloudStore.s3(settings).name, settings.url):
        for secret in ("AKIA-id", "the-secret", "the-token"):
            assert secret not in text


@pytest.mark.parametrize(
    ("prefix", "url"),
    [("", "s3://bucket"), ("a/b", "s3://bucket/a/b"), ("/a/b/", "s3://bucket/a/b"), ("/", "s3://bucket")],
)
def test_the_name_is_a_url(prefix: str, url: str) -> None:
    """ "s3://bucket/prefix", whatever slashes the prefix is written with."""
    assert CloudStore.s3(replace(_KEYS, prefix=prefix)).name == url


@pytest.mark.parametrize(
    ("endpoint", "path_style", "host", "path"),
    [
        ("http://127.0.0.1:9000", True, "127.0.0.1:9000", "/bucket/key"),
        ("https://fly.storage.tigris.dev/", True, "fly.storage.tigris.dev", "/bucket/key"),
        ("https://t3.storage.dev", False, "bucket.t3.storage.dev", "/key"),
        ("https://account.r2.cloudflarestorage.com", True, "account.r2.cloudflarestorage.com", "/bucket/key"),
        ("", True, "s3.us-east-1.amazonaws.com", "/bucket/key"),
        ("", False, "bucket.s3.us-east-1.amazonaws.com", "/key"),
    ],
)
def test_where_requests_go(endpoint: str, path_style: bool, host: str, path: str) -> None:
    """Bucket in the path or in the host name, at the endpoint or at AWS."""
    url = urlsplit(presigned(replace(_KEYS, endpoint=endpoint, path_style=path_style), "GET", "key"))
    assert (url.netloc, url.path) == (host, path)


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        (replace(_KEYS, endpoint="https://account.r2.cloudflarestorage.com"), "auto"),
        (replace(_KEYS, endpoint="http://minio:9000"), "us-east-1"),
        (replace(_KEYS, endpoint="http://minio:9000", region="eu-west-3"), "eu-west-3"),
        (_KEYS, "us-east-1"),
    ],
)
def test_the_region(settings: S3Settings, region: str) -> None:
    """R2's is "auto", and where nobody says otherwise it is us-east-1."""
    assert f"%2F{region}%2Fs3" in presigned(settings, "GET", "key")


def test_the_region_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION speaks of AWS, not of other endpoints."""
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert "%2Feu-north-1%2Fs3" in presigned(_KEYS, "GET", "key")
    assert "%2Fus-east-1%2Fs3" in presigned(replace(_KEYS, endpoint="http://minio:9000"), "GET", "key")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (replace(_KEYS, secret_key=""), "access key and secret key are given together"),
        (replace(_KEYS, access_key=""), "access key and secret key are given together"),
        (replace(_KEYS, endpoint="minio:9000"), "'minio:9000' is not http://host or https://host"),
        (replace(_KEYS, endpoint="ftp://minio"), "'ftp://minio' is not http://host or https://host"),
        (replace(_KEYS, endpoint="https://user:word@minio"), "no user and password"),
        (replace(_KEYS, endpoint="https://minio", ca_file=Path("/no/such/ca.pem")), "CA file /no/such/ca.pem"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(settings: S3Settings, complaint: str) -> None:
    """ConfigError says what is wrong with which target, and repeats no secret."""
    with pytest.raises(ConfigError) as failure:
        s3_client(settings)
    assert complaint in str(failure.value)
    assert "s3://bucket" in str(failure.value)
    assert "word" not in str(failure.value).replace("password", "")
