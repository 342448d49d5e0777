"""Azure Blob Storage: settings and the client made of them.

What the settings say holds. What they leave empty is found as Azure's own tools find it: a client secret, a workload
identity or a managed identity in AZURE_*, and the account in AZURE_STORAGE_ACCOUNT_NAME.
Source: obstore, AzureStore; object_store, AzureConfigKey.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obstore.store import AzureStore

from tallykeep.errors import ConfigError
from tallykeep.storage.cloud import CloudStore, client_options, made, never_again


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """Where a container is and who asks for it. Its repr holds no secret."""

    container: str
    account: str = ""  # storage account; empty: AZURE_STORAGE_ACCOUNT_NAME
    prefix: str = ""  # slashes at its ends mean nothing
    endpoint: str = ""  # "https://host[:port][/account]"; empty: https://ACCOUNT.blob.core.windows.net
    account_key: str = field(default="", repr=False)
    sas_token: str = field(default="", repr=False)
    ca_file: Path | None = None  # PEM, trusted besides the system's
    timeout: float = 30.0  # seconds for one request, body included
    connect_timeout: float = 5.0  # seconds

    @property
    def url(self) -> str:
        """What names it in messages and labels: "az://container/prefix"."""
        return "az://" + "/".join(part for part in (self.container, self.prefix.strip("/")) if part)


def azure_store(settings: AzureSettings) -> CloudStore:
    """The store that `settings` describe. Sends nothing yet. Raises: ConfigError naming what cannot be used."""
    if settings.account_key and settings.sas_token:
        raise ConfigError(f"{settings.url}: either the account's key or a shared access signature, not both.")
    options = client_options(settings.url, settings.timeout, settings.connect_timeout, settings.ca_file)
    how: dict[str, Any] = {"client_options": options, "retry_config": never_again(settings.timeout)}
    client = made(lambda: AzureStore(settings.container, config=_config(settings), **how), settings.url)
    return CloudStore(
        client, name=settings.url, backend="azure", prefix=settings.prefix, server=settings.endpoint or "Azure",
        timeout=settings.timeout,
    )  # fmt: skip


def _config(settings: AzureSettings) -> Any:
    config: dict[str, str | bool] = {"use_emulator": False, "skip_signature": False}
    if settings.account:
        config["account_name"] = settings.account
    if settings.endpoint:
        config["endpoint"] = settings.endpoint.rstrip("/")
    if settings.account_key:
        config |= {"account_key": settings.account_key, "credential_type": "access_key"}
    if settings.sas_token:
        config |= {"sas_key": settings.sas_token, "credential_type": "sas_token"}
    return config
