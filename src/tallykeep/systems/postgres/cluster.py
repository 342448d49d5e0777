"""A cluster as it is configured: its names, its key, its two tiers. What every command and service begins with.

<archive>/<cluster>/             tier 1: the WAL archive (identity.json, gaps.jsonl, wal/)
<archive>/<cluster>/base/        tier 1: the repository of base backups
<tier 2>/<cluster>/              the same in object storage: identity.json, wal/, base/
key.json in both                 what tells the right key from a wrong one, before anything is written with it
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tallykeep.clock import Clock
from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError, Conflict, IntegrityError, NotFound, StoreError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.handing_over import make_folders
from tallykeep.storage.local import LocalStore
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import Store
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.archive import Archive
from tallykeep.systems.postgres.cipher import Cipher
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.settings import ClusterSettings, PostgresSettings, Tier2Settings
from tallykeep.systems.postgres.wal_source import LocalWal, RemoteWal, WalSource

if TYPE_CHECKING:
    from tallykeep.systems.postgres.session import Source

BASE = "base"
KEY_CHECK = "key.json"
TIER_1, TIER_2 = "1", "2"
_PATIENCE = 5.0  # seconds that a start waits for tier 2
_log = logging.getLogger(__name__)
_CHECKED, _BOUND = b"tallykeep", b"key check"


@dataclass(frozen=True, slots=True)
class Tier:
    """One copy of a cluster's protection."""

    number: str  # "1" or "2"
    root: Store  # identity.json, key.json, wal/
    base: Store  # the repository of base backups
    wal: WalSource
    cipher: Cipher | None

    async def repository(self, clock: Clock) -> Repository:
        """Its base backups as they are now. Raises: IntegrityError; StoreErrors; NotFound where there is no folder."""
        return await Repository.open(self.base, clock, self.cipher)

    async def check_key(self, *, make: bool = False) -> None:
        """See that the key is the one this tier was written with; with `make` write that down the first time.

        Raises: ConfigError for another key, for none where there was one, and for one where there was none.
        """
        try:
            said = await self.root.read(KEY_CHECK)
        except NotFound:
            if not make:
                return
            with suppress(Conflict):  # another process was faster
                await self.root.create(KEY_CHECK, _key_check(self.cipher))
            said = await self.root.read(KEY_CHECK)
        _compare(said, self.cipher, f"{self.root.name}/{KEY_CHECK}")

    async def close(self) -> None:
        """Let connections go."""
        await self.root.close()
        await self.base.close()


@dataclass(frozen=True, slots=True)
class Cluster:
    """A configured cluster."""

    name: str
    conninfo: str  # "" where it can only be restored
    slot: str
    folder: Path  # of tier 1
    cipher: Cipher | None
    tier1: Tier
    tier2: Tier | None

    @property
    def source(self) -> Source:
        """Where its WAL comes from. Raises: ConfigError where no connection is configured, or one that is none."""
        if not self.conninfo:
            raise ConfigError(f"postgres: cluster {self.name}: give url, the connection string of the cluster")
        from tallykeep.systems.postgres.replication import check  # get-wal need not wait for libpq to be loaded
        from tallykeep.systems.postgres.session import Source

        try:
            check(self.conninfo)
        except ConfigError as error:
            raise ConfigError(f"postgres: cluster {self.name}: url: {error}") from None
        return Source(self.name, self.conninfo, self.slot)

    @property
    def archive(self) -> Archive:
        """Its WAL on disk."""
        return Archive(self.folder, self.cipher)

    @property
    def tiers(self) -> Sequence[Tier]:
        """Tier 1 first."""
        return (self.tier1,) if self.tier2 is None else (self.tier1, self.tier2)

    def tier(self, number: str) -> Tier:
        """Raises: ConfigError where there is no such tier."""
        for tier in self.tiers:
            if tier.number == number:
                return tier
        raise ConfigError("postgres: there is no tier 2: give tier2.url, or TALLYKEEP_POSTGRES_TIER2")

    async def close(self) -> None:
        """Let connections go."""
        for tier in self.tiers:
            await tier.close()


def clusters_of(settings: PostgresSettings, names: Iterable[str] = ()) -> list[Cluster]:
    """The clusters of those names, or all; nothing is sent or made. Raises: ConfigError with every mistake."""
    known = {cluster.name: cluster for cluster in settings.clusters}
    if len(known) < len(settings.clusters):
        twice = [name for name in known if sum(cluster.name == name for cluster in settings.clusters) > 1]
        raise ConfigError(*(f"postgres: two clusters are named {name}: rename one" for name in twice))
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(
            *(f"postgres: there is no cluster {name!r}, only {', '.join(known) or 'none at all'}" for name in missing)
        )
    cipher = cipher_of(settings)
    return [open_cluster(settings, known[name], cipher) for name in (tuple(names) or known)]


def open_cluster(settings: PostgresSettings, cluster: ClusterSettings, cipher: Cipher | None) -> Cluster:
    """One cluster. Raises: ConfigError."""
    folder = settings.archive.absolute() / cluster.name
    base = LocalStore(folder / BASE)
    tier1 = Tier(TIER_1, LocalStore(folder), base, LocalWal(Archive(folder, cipher)), cipher)
    return Cluster(
        cluster.name, cluster.url.reveal(), cluster.slot, folder, cipher, tier1,
        tier2_of(settings.tier2, cluster.name, cipher),
    )  # fmt: skip


def tier2_of(settings: Tier2Settings, cluster: str, cipher: Cipher | None) -> Tier | None:
    """Tier 2 of a cluster, where there is one. Raises: ConfigError."""
    if not settings.url:
        return None
    root = RetryStore(_store(settings, cluster), deadline=settings.timeout)
    base = RetryStore(_store(settings, f"{cluster}/{BASE}"), deadline=settings.timeout)
    return Tier(TIER_2, root, base, RemoteWal(root, cipher), cipher)


def cipher_of(settings: PostgresSettings) -> Cipher | None:
    """The cipher of the key, where there is one. Reads the recovery file. Raises: ConfigError."""
    key = key_of(settings.key, settings.key_file)
    return None if key is None else Cipher.from_key(key)


def key_of(text: Secret, file: Path | None) -> bytes | None:
    """The key, where there is one. Raises: ConfigError."""
    if file is not None:
        return keyfile.read(file)
    return keyfile.from_text(text.reveal(), "postgres: key") if text else None


async def prepare(cluster: Cluster) -> None:
    """Make the folders of tier 1, and see that the key is right in both tiers; a tier 2 in a folder is made, too.

    WAL does not wait for a tier 2 that gives no answer: it is looked at again before anything is written there.
    Raises: ConfigError; StoreErrors of tier 1.
    """
    await in_thread(_make, cluster)
    await cluster.tier1.check_key(make=True)
    if cluster.tier2 is not None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await cluster.tier2.check_key(make=True)
        except (StoreError, TimeoutError) as error:
            why = str(error) or f"it has not answered within {_PATIENCE:g} s"
            _log.warning("%s: tier 2 cannot be looked at now, and is looked at again: %s", cluster.name, why)


def _make(cluster: Cluster) -> None:
    try:
        make_folders(cluster.folder / BASE, 0o700)
        if cluster.tier2 is not None and cluster.tier2.base.backend == "filesystem":
            base = Path(unquote(cluster.tier2.base.name.removeprefix("file://")))
            _see_apart(cluster.folder.resolve(), base.parent.resolve())
            make_folders(base, 0o700)
    except OSError as error:
        raise ConfigError(f"{error.filename}: backups cannot be kept there: {error.strerror}.") from None


def _see_apart(tier1: Path, tier2: Path) -> None:
    """What tier 1 lets go of because tier 2 has it would be gone from both. Raises: ConfigError."""
    if tier1 == tier2 or tier1 in tier2.parents or tier2 in tier1.parents:
        raise ConfigError(
            f"postgres: tier2: {tier2} and tier 1, {tier1}, are not apart: one folder is no second copy. Give a "
            "bucket, or a folder on another disk."
        )


def _store(settings: Tier2Settings, below: str) -> Store:
    """The store that `url` names, bound to a prefix. Raises: ConfigError."""
    scheme, separator, rest = settings.url.partition("://")
    if not separator or scheme == "file":
        return LocalStore(Path(rest if separator else settings.url) / below, timeout=settings.timeout)
    bucket, _, prefix = rest.partition("/")
    prefix = "/".join(part for part in (prefix.strip("/"), below) if part)
    if not bucket:
        raise ConfigError(f"postgres: tier2: {settings.url!r} names no bucket; one looks like s3://bucket/prefix")
    secret, token = settings.secret_key.reveal(), settings.session_token.reveal()
    if scheme == "s3":  # clients of clouds are loaded where they are used: 50 ms
        from tallykeep.storage.cloud import CloudStore
        from tallykeep.storage.s3 import S3Settings

        return CloudStore.s3(S3Settings(
            bucket, prefix, settings.endpoint, settings.region, settings.access_key, secret, token,
            path_style=settings.path_style, ca_file=settings.ca_file, timeout=settings.timeout,
        ))  # fmt: skip
    if scheme == "azure":
        from tallykeep.storage.azure import AzureSettings, azure_store

        return azure_store(AzureSettings(
            bucket, settings.account_name, prefix, settings.endpoint, settings.account_key.reveal(),
            ca_file=settings.ca_file, timeout=settings.timeout,
        ))  # fmt: skip
    if scheme == "gs":
        from tallykeep.storage.gcs import GcsSettings, gcs_store

        return gcs_store(GcsSettings(
            bucket, prefix, settings.endpoint, settings.service_account_path, ca_file=settings.ca_file,
            timeout=settings.timeout,
        ))  # fmt: skip
    raise ConfigError(f"postgres: tier2: {scheme}:// is no storage that there is: s3, gs, azure, or a folder")


def _key_check(cipher: Cipher | None) -> bytes:
    sealed = base64.b64encode(cipher.seal(_CHECKED, _BOUND)).decode() if cipher else ""
    return json.dumps({"sealed": sealed}).encode()


def _compare(said: bytes, cipher: Cipher | None, name: str) -> None:
    try:
        sealed = base64.b64decode(json.loads(said)["sealed"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{name}: not as it was written; bring it back from a copy.") from None
    if bool(sealed) != (cipher is not None):
        has, told = ("was written with a key", "none is given") if sealed else ("is not encrypted", "a key is given")
        raise ConfigError(f"{name}: what is kept here {has}, and {told}: the two do not go together.")
    if cipher is not None:
        try:
            cipher.open(sealed, _BOUND, name)
        except IntegrityError:
            raise ConfigError(f"{name}: what is kept here was written with another key: give that one.") from None
