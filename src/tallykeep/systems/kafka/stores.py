"""The store of a backup, as its settings describe it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tallykeep.errors import NotFound
from tallykeep.metrics import Book
from tallykeep.storage.azure import AzureSettings, azure_store
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.gcs import GcsSettings, gcs_store
from tallykeep.storage.local import LocalStore
from tallykeep.storage.metered import MeteredStore
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.s3 import S3Settings
from tallykeep.storage.store import Store
from tallykeep.systems.kafka.failures import Missing, NoBackup
from tallykeep.systems.kafka.figures import Operation, StorageFigures
from tallykeep.systems.kafka.settings import StorageSection

_PATIENCE = 60.0  # seconds in which a request is made again
_NEEDED = {"filesystem": "path", "s3": "bucket", "gcs": "bucket", "azure": "container_name"}


def open_store(
    storage: StorageSection, backup_id: str = "", *, book: Book | None = None, operation: Operation = "backup",
    make: bool = False,
) -> Store:  # fmt: skip
    """The store of one backup, or without an id that which holds them all; counted in `book`.

    Touches the disk; with `make` it makes the backup's folder. Raises: ConfigError; NotFound.
    """
    needed = _NEEDED[storage.backend]
    if not getattr(storage, needed):
        raise Missing(f"storage.backend {storage.backend} needs storage.{needed}: where are the backups?")
    prefix = "/".join(filter(None, (storage.prefix.strip("/"), backup_id)))
    store = _OPENERS[storage.backend](storage, prefix, make)
    if book is None:
        return RetryStore(store, deadline=_PATIENCE)
    figures = StorageFigures(book, operation, backup_id, storage.backend)
    return RetryStore(MeteredStore(store, figures), deadline=_PATIENCE, retried=figures.retried)


def _folder(storage: StorageSection, prefix: str, make: bool) -> Store:
    assert storage.path is not None
    root = storage.path / Path(prefix)
    if not storage.path.is_dir():  # a disk that is not mounted must not be filled in its stead
        raise NotFound(f"{storage.path} is not there: make the folder, or mount it.")
    if make:
        root.mkdir(parents=True, exist_ok=True)
    elif not root.is_dir():
        raise NoBackup(f"{root} holds no backup: it is not there. `tallykeep kafka list -p {storage.path}` names them.")
    return LocalStore(root, timeout=storage.timeout)


def _s3(storage: StorageSection, prefix: str, make: bool) -> Store:
    settings = S3Settings(
        bucket=storage.bucket, prefix=prefix, endpoint=storage.endpoint, region=storage.region,
        access_key=storage.access_key, secret_key=storage.secret_key.reveal(), path_style=storage.path_style,
        ca_file=storage.ca_file, timeout=storage.timeout,
    )  # fmt: skip
    return CloudStore.s3(settings)


def _azure(storage: StorageSection, prefix: str, make: bool) -> Store:
    settings = AzureSettings(
        storage.container_name, storage.account_name, prefix, storage.endpoint, storage.account_key.reveal(),
        storage.sas_token.reveal(), storage.ca_file, storage.timeout,
    )  # fmt: skip
    return azure_store(settings)


def _gcs(storage: StorageSection, prefix: str, make: bool) -> Store:
    settings = GcsSettings(
        storage.bucket, prefix, storage.endpoint, storage.service_account_path, ca_file=storage.ca_file,
        timeout=storage.timeout,
    )  # fmt: skip
    return gcs_store(settings)


_OPENERS: dict[str, Callable[[StorageSection, str, bool], Store]] = {
    "filesystem": _folder,
    "s3": _s3,
    "azure": _azure,
    "gcs": _gcs,
}


def of_path(path: str) -> StorageSection:
    """The storage that `-p` names: a folder, file:///folder or s3://bucket/prefix (credentials from AWS_*)."""
    if path.startswith("s3://"):
        bucket, _, prefix = path.removeprefix("s3://").partition("/")
        return StorageSection(backend="s3", bucket=bucket, prefix=prefix)
    return replace(StorageSection(), path=Path(path.removeprefix("file://")))
