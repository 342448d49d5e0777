"""web.config.yml: TLS, client certificates, headers and users of a listener, as Prometheus exporters read it.

Reading only: tls.py makes the TLS context, guard.py asks for passwords, live.py follows changes of the file.
Everything wrong is found at once. A key that exporters know and tallykeep does not honour is refused, never
ignored: who writes it expects its protection. The exceptions weaken nothing: http2, which is not served (a warning
says so), and prefer_server_cipher_suites, which has no effect in exporters either.
Source: prometheus/exporter-toolkit, docs/web-configuration.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallykeep.errors import ConfigError

_AUTH_TYPES = ("", "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_VERIFYING = ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_VERSIONS = ("TLS12", "TLS13")
_HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
_BCRYPT = re.compile(r"\$2[abxy]?\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The section tls_server_config. Paths are absolute."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None
    client_auth_type: str
    min_version: str
    max_version: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the context is made from."""
        return (self.cert_file, self.key_file, *((self.client_ca_file,) if self.client_ca_file else ()))


@dataclass(frozen=True, slots=True)
class WebConfig:
    """A whole web.config.yml. An empty file asks for nothing and protects nothing."""

    tls: TlsSettings | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # bcrypt hashes
    warnings: tuple[str, ...] = ()


def read_web_config(path: Path) -> WebConfig:
    """The configuration in the file at `path`.

    Raises: ConfigError with a line for each problem, naming the file and the key.
    """
    import yaml  # 50 ms that only listeners with this file pay

    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; see web_config_file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    reader = _Reader(path)
    config = reader.read({} if document is None else document)
    if reader.problems:
        raise ConfigError(*reader.problems)
    return config


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def read(self, document: object) -> WebConfig:
        top = self._section("", document, "tls_server_config", "http_server_config", "basic_auth_users")
        tls = self._tls(top["tls_server_config"]) if top.get("tls_server_config") is not None else None
        headers = self._http(top.get("http_server_config"))
        return WebConfig(tls, headers, self._users(top.get("basic_auth_users")), tuple(self.warnings))

    def _tls(self, given: object) -> TlsSettings | None:
        where = "tls_server_config"
        section = self._section(
            where, given, "cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version", "max_version",
            "prefer_server_cipher_suites",
        )  # fmt: skip
        certificate, key = self._path(where, section, "cert_file"), self._path(where, section, "key_file")
        for name, value in (("cert_file", certificate), ("key_file", key)):
            if value is None:
                self._problem(f"{where}.{name}", "is missing")
        authority = self._path(where, section, "client_ca_file")
        auth = self._choice(where, section, "client_auth_type", "", _AUTH_TYPES)
        if (auth in _VERIFYING) != (authority is not None):
            self._problem(where, f"client_ca_file goes with a client_auth_type of {' or '.join(_VERIFYING)}")
        lowest = self._choice(where, section, "min_version", "TLS12", _VERSIONS)
        highest = self._choice(where, section, "max_version", "TLS13", _VERSIONS)
        if lowest > highest:
            self._problem(where, f"min_version {lowest} is above max_version {highest}")
        return TlsSettings(certificate, key, authority, auth, lowest, highest) if certificate and key else None

    def _http(self, given: object) -> dict[str, str]:
        section = self._section("http_server_config", given, "http2", "headers")
        if section.get("http2"):
            self.warnings.append(f"{self.path}: http2 is not served; HTTP/1.1 is")
        headers = self._section("http_server_config.headers", section.get("headers"), *_HEADERS)
        for name, value in headers.items():
            if not isinstance(value, str) or not value.isprintable() or not value.isascii():
                self._problem(f"http_server_config.headers.{name}", "is not a header value")
        return {name: value for name, value in headers.items() if isinstance(value, str)}

    def _users(self, given: object) -> dict[str, bytes]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            self._problem("basic_auth_users", "is not a mapping of users to bcrypt hashes")
            return {}
        users: dict[str, bytes] = {}
        for user, hashed in given.items():
            if isinstance(user, str) and user and isinstance(hashed, str) and _BCRYPT.fullmatch(hashed):
                users[user] = hashed.encode()
            else:  # the value is not shown: it may be the password itself
                self._problem(
                    f"basic_auth_users.{user}", "is not a bcrypt hash (make one with `htpasswd -nBC 10 USER`)"
                )
        return users

    def _section(self, where: str, given: object, *known: str) -> Mapping[str, Any]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            self._problem(where or "the file", "is not a mapping")
            return {}
        for key in given:
            if key not in known:
                self._problem(f"{where}.{key}".lstrip("."), f"is not honoured here; keys: {', '.join(known)}")
        return {key: value for key, value in given.items() if key in known}

    def _path(self, where: str, section: Mapping[str, object], key: str) -> Path | None:
        value = section.get(key)
        if value in (None, ""):
            return None
        if not isinstance(value, str):
            self._problem(f"{where}.{key}", "is not a path")
            return None
        return self.path.parent.absolute() / value

    def _choice(self, where: str, section: Mapping[str, object], key: str, default: str, known: tuple[str, ...]) -> str:
        value = section.get(key) or default
        if isinstance(value, str) and value in known:
            return value
        self._problem(f"{where}.{key}", f"is {value!r}; allowed: {', '.join(filter(None, known))}")
        return default

    def _problem(self, key: str, what: str) -> None:
        self.problems.append(f"{self.path}: {key} {what}")
