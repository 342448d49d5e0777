"""S3 and what speaks its protocol (R2, MinIO, Tigris, Ceph, SeaweedFS, ...): settings and the client made of them.

What the settings say holds, whatever AWS_* variables the process has: they must not send one target's requests,
or its credentials, to another's endpoint. What the settings leave empty is found as AWS's own tools find it:
credentials in AWS_ACCESS_KEY_ID and so on, web identity, container or instance; the region in AWS_REGION; the
endpoint in AWS_ENDPOINT_URL. AWS_SERVER_SIDE_ENCRYPTION, AWS_CHECKSUM_ALGORITHM and the proxy variables say how
this machine writes and connects; they hold for every store.
Source: obstore, S3Store; object_store, AmazonS3ConfigKey.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import S3Store

from tallykeep.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where a bucket is and who asks for it. Its repr holds no secret."""

    bucket: str
    prefix: str = ""  # slashes at its ends mean nothing
    endpoint: str = ""  # "https://host[:port]"; empty: AWS
    region: str = ""  # empty: "auto" for R2, AWS_REGION for AWS, "us-east-1"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    anonymous: bool = False  # requests go out unsigned, for public buckets
    path_style: bool = True  # bucket in the path; False: in the host name
    verify_tls: bool = True
    ca_file: Path | None = None  # PEM, trusted besides the system's; None: SSL_CERT_FILE
    timeout: float = 30.0  # seconds for one request, body included
    connect_timeout: float = 5.0  # seconds

    @property
    def url(self) -> str:
        """What names it in messages and labels: "s3://bucket/prefix"."""
        return "s3://" + "/".join(part for part in (self.bucket, self.prefix.strip("/")) if part)


def s3_client(settings: S3Settings) -> S3Store:
    """The obstore client of the bucket (not of the prefix in it). Sends nothing yet, and never retries by itself.

    Raises: ConfigError naming what cannot be used.
    """
    if bool(settings.access_key) != bool(settings.secret_key):
        raise ConfigError(f"{settings.url}: access key and secret key are given together or not at all.")
    try:
        return S3Store(
            settings.bucket,
            config=_config(settings),
            client_options=_client_options(settings),
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=settings.timeout)},
            credential_provider=_credentials(settings),
        )
    except Exception as error:  # obstore raises several unrelated types; its first line holds no secret
        raise ConfigError(f"{settings.url}: {str(error).splitlines()[0]}") from None


def presigned(settings: S3Settings, method: str, key: str = "", seconds: float = 60.0) -> str:
    """A URL that allows `method` on one object of the bucket, or on the bucket itself, to whoever holds it."""
    return obstore.sign(s3_client(settings), method, key, timedelta(seconds=seconds))  # type: ignore[call-overload,no-any-return]


def _config(settings: S3Settings) -> Any:
    """Every key that decides where a request goes and as whom, so that no variable of the environment does."""
    config: dict[str, str | bool] = {
        "virtual_hosted_style_request": not settings.path_style,
        "skip_signature": settings.anonymous,
        "s3_express": False,
        "request_payer": False,
        "unsigned_payload": False,
        "conditional_put": "etag",
    }
    if region := _region(settings):
        config["region"] = region
    if settings.endpoint:
        # AWS_ENDPOINT_URL_S3 would beat the plain key.
        config["endpoint"] = config["aws_endpoint_url_s3"] = _endpoint(settings)
    return config


def _region(settings: S3Settings) -> str:
    if settings.region:
        return settings.region
    if ".r2.cloudflarestorage.com" in settings.endpoint:
        return "auto"
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return "us-east-1" if settings.endpoint or not named else named


def _endpoint(settings: S3Settings) -> str:
    """The endpoint as the client wants it: in virtual-hosted style with the bucket in the host name already."""
    scheme, separator, host = settings.endpoint.rstrip("/").partition("://")
    if "@" in host:
        raise ConfigError(f"{settings.url}: an endpoint takes no user and password; give an access key and its secret.")
    if not separator or scheme not in ("http", "https") or not host:
        raise ConfigError(f"{settings.url}: the endpoint {settings.endpoint!r} is not http://host or https://host.")
    return f"{scheme}://{host}" if settings.path_style else f"{scheme}://{settings.bucket}.{host}"


def _credentials(settings: S3Settings) -> Callable[[], S3Credential] | None:
    """Explicit credentials as a provider: unlike plain keys it shuts out AWS_SESSION_TOKEN and web identities."""
    if not settings.access_key or settings.anonymous:
        return None
    credential: S3Credential = {
        "access_key_id": settings.access_key,
        "secret_access_key": settings.secret_key,
        "token": settings.session_token or None,
        "expires_at": None,
    }
    return lambda: credential


def _client_options(settings: S3Settings) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": True,  # whether to is said by the endpoint's scheme
        "allow_invalid_certificates": not settings.verify_tls,
        "timeout": timedelta(seconds=settings.timeout),
        "read_timeout": timedelta(seconds=settings.timeout),
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
    }
    if (ca := settings.ca_file or _environment_ca()) is not None and settings.endpoint.startswith("https"):
        try:
            options["root_certificate"] = ca.read_bytes()
        except OSError as error:
            raise ConfigError(f"{settings.url}: the CA file {ca} cannot be read: {error.strerror}.") from None
    return options


def _environment_ca() -> Path | None:
    named = os.environ.get("SSL_CERT_FILE")
    return Path(named) if named else None
