"""Google Cloud Storage: settings and the client made of them.

Without a service account's file the application default credentials hold: GOOGLE_APPLICATION_CREDENTIALS, gcloud's
own file, or the machine's service account.
Source: obstore, GCSStore; object_store, GoogleConfigKey.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstore.store import GCSStore

from tallykeep.storage.cloud import CloudStore, client_options, made, never_again


@dataclass(frozen=True, slots=True)
class GcsSettings:
    """Where a bucket is and who asks for it."""

    bucket: str
    prefix: str = ""  # slashes at its ends mean nothing
    endpoint: str = ""  # "https://host[:port]"; empty: Google's
    service_account: Path | None = None  # JSON; None: the application default credentials
    ca_file: Path | None = None  # PEM, trusted besides the system's
    timeout: float = 30.0  # seconds for one request, body included
    connect_timeout: float = 5.0  # seconds

    @property
    def url(self) -> str:
        """What names it in messages and labels: "gs://bucket/prefix"."""
        return "gs://" + "/".join(part for part in (self.bucket, self.prefix.strip("/")) if part)


def gcs_store(settings: GcsSettings) -> CloudStore:
    """The store that `settings` describe. Sends nothing yet. Raises: ConfigError naming what cannot be used."""
    options = client_options(settings.url, settings.timeout, settings.connect_timeout, settings.ca_file)
    how: dict[str, Any] = {"client_options": options, "retry_config": never_again(settings.timeout)}
    client = made(lambda: GCSStore(settings.bucket, config=_config(settings), **how), settings.url)
    return CloudStore(
        client, name=settings.url, backend="gcs", prefix=settings.prefix, server=settings.endpoint or "Google",
        timeout=settings.timeout,
    )  # fmt: skip


def _config(settings: GcsSettings) -> Any:
    config: dict[str, str | bool] = {"skip_signature": False}
    if settings.endpoint:
        config["base_url"] = settings.endpoint.rstrip("/")
    if settings.service_account:
        config["service_account"] = str(settings.service_account)
    return config
