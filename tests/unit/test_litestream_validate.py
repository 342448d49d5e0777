"""`tallykeep config validate` looks as far as `run` would: into litestream.yml, and at every client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallykeep.cli.main import main

VARIABLES = ("LOCAL_LTX_DIR", "S3_BUCKET", "S3_ENDPOINT_URL", "LITESTREAM_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID",
             "LITESTREAM_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "LITESTREAM_S3_ENDPOINT")  # fmt: skip


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """Validate with these variables: exit status and what is said on standard error."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def call(**environ: object) -> tuple[int, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, str(value))
        return main(["config", "validate"]), capsys.readouterr().err

    return call


def test_half_a_pair_of_keys(validate: object) -> None:
    """A key without its secret is found before anything runs, with the target it belongs to."""
    assert callable(validate)
    status, err = validate(S3_BUCKET="backups", LITESTREAM_ACCESS_KEY_ID="id")
    assert (status, "target default" in err, "together" in err) == (2, True, True)


@pytest.mark.parametrize("endpoint", ["ht!tp://", "https://", "https://host name", "http://host:port", "ftp://host"])
def test_endpoints_that_cannot_be(endpoint: str, validate: object) -> None:
    """An endpoint that is no address is a bad value like any other."""
    assert callable(validate)
    status, err = validate(S3_BUCKET="backups", S3_ENDPOINT_URL=endpoint)
    assert (status, "S3_ENDPOINT_URL" in err, "allowed is" in err) == (2, True, True)


@pytest.mark.parametrize(
    "endpoint", ["https://account.r2.cloudflarestorage.com", "minio:9000", "http://[::1]:9000/", "https://host/s3"]
)
def test_endpoints(endpoint: str, validate: object) -> None:
    """Hosts, ports, addresses and paths are taken, with a scheme or without."""
    assert callable(validate)
    assert validate(S3_BUCKET="backups", S3_ENDPOINT_URL=endpoint)[0] == 0


def test_passwords_in_endpoints_are_refused_and_not_told(validate: object) -> None:
    """A password has no place in an endpoint, nor in the message that says so."""
    assert callable(validate)
    status, err = validate(S3_BUCKET="backups", S3_ENDPOINT_URL="https://user:hunter2@host")
    assert (status, "hunter2" in err) == (2, False)


def test_litestream_yml(validate: object, tmp_path: Path) -> None:
    """A litestream.yml that is missing, or cannot be used, is a mistake of the settings that name it."""
    assert callable(validate)
    (tmp_path / "tallykeep.yaml").write_text(f"litestream:\n  config: {tmp_path / 'litestream.yml'}\n")
    status, err = validate(TALLYKEEP_CONFIG=tmp_path / "tallykeep.yaml")
    assert (status, "litestream.yml" in err) == (2, True)
    databases = "dbs:\n" + "".join(
        f"- path: /data/{name}.db\n  replica: {{url: 's3://b/{name}', access-key-id: k}}\n" for name in ("one", "two")
    )
    (tmp_path / "litestream.yml").write_text(databases)
    status, err = validate()
    assert (status, err.count("together")) == (2, 2)
    (tmp_path / "litestream.yml").write_text(databases.replace(", access-key-id: k", ""))
    assert validate()[0] == 0
