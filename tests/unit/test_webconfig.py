from __future__ import annotations

from pathlib import Path

import pytest

from tallykeep.errors import ConfigError
from tallykeep.web.webconfig import WebConfig, read_web_config

HASH = "$2y$10$" + "a" * 53


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "web.config.yml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        read_web_config(written(tmp_path, text))
    assert all(problem.startswith(str(tmp_path / "web.config.yml")) for problem in raised.value.problems)
    return str(raised.value)


def test_a_whole_file(tmp_path: Path) -> None:
    """Every key that is honoured; paths are relative to the file."""
    config = read_web_config(
        written(
            tmp_path,
            f"""
tls_server_config:
  cert_file: tls/server.crt
  key_file: /run/secrets/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  min_version: TLS13
http_server_config:
  headers:
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  prometheus: {HASH}
""",
        )
    )
    assert config.tls is not None
    assert config.tls.files == (tmp_path / "tls/server.crt", Path("/run/secrets/server.key"), tmp_path / "ca.crt")
    assert config.tls.min_version == "TLS13"
    assert config.headers == {"Strict-Transport-Security": "max-age=31536000"}
    assert config.users == {"prometheus": HASH.encode()}
    assert config.warnings == ()
    assert HASH not in repr(config)


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    """As with exporters: no TLS, no users."""
    assert read_web_config(written(tmp_path, "")) == WebConfig()


def test_http2_is_ignored_with_a_warning(tmp_path: Path) -> None:
    """uvicorn has no HTTP/2; a file written for exporters works all the same."""
    [warning] = read_web_config(written(tmp_path, "http_server_config: {http2: true}")).warnings
    assert "http2" in warning


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("tls_server: {}", "tls_server"),
        ("rate_limit: {interval: 1s}", "rate_limit"),
        ("tls_server_config: {cert_file: a, key_file: b, cipher_suites: []}", "tls_server_config.cipher_suites"),
        ("tls_server_config: {cert_file: a}", "tls_server_config.key_file"),
        ("tls_server_config: {}", "tls_server_config.cert_file"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}", "TLS12, TLS13"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS13, max_version: TLS12}", "above"),
        ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}", "client_auth_type"),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}",
            "client_ca_file",
        ),
        ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequestClientCert}", "RequestClientCert"),
        ("tls_server_config: {cert_file: 3, key_file: b}", "tls_server_config.cert_file"),
        ("http_server_config: {headers: {X-Other: a}}", "http_server_config.headers.X-Other"),
        ('http_server_config: {headers: {X-Frame-Options: "a\\r\\nb: c"}}', "X-Frame-Options"),
        ("basic_auth_users: {joe: hunter2}", "basic_auth_users.joe"),
        ("basic_auth_users: [joe]", "basic_auth_users"),
        ("[1, 2]", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path: Path, text: str, named: str) -> None:
    """Unknown and unsupported keys and bad values are errors that name the key."""
    assert named in problems(tmp_path, text)


def test_every_problem_at_once_and_no_secret(tmp_path: Path) -> None:
    """One run finds all mistakes; a password written in place of its hash is not repeated in the log."""
    found = problems(tmp_path, "nonsense: 1\ntls_server_config: {x: 1}\nbasic_auth_users: {joe: hunter2}")
    assert len(found.splitlines()) == 5
    assert "hunter2" not in found


def test_a_missing_file(tmp_path: Path) -> None:
    """The path and the setting are named."""
    with pytest.raises(ConfigError, match=r"none\.yml.*web_config_file"):
        read_web_config(tmp_path / "none.yml")
