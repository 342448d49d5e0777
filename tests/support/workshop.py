"""Every backend and every wrapper, as the conformance suite and its kin build them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from obstore.store import MemoryStore as ObstoreMemory
from tests.support.clouds import Azurite, azure

from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.local import LocalStore
from tallykeep.storage.memory import MemoryStore
from tallykeep.storage.metered import MeteredStore, Request
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import Store

_server = pytest.mark.server
BACKENDS = ["memory", "local", "cloud", *(pytest.param(kind, marks=_server) for kind in ("s3", "azure"))]
KINDS = [*BACKENDS, "retry(memory)", "metered(local)", pytest.param("retry(metered(s3))", marks=_server)]


def keeps_folders(kind: str) -> bool:
    """SeaweedFS lists in the order of its folder tree."""
    return "s3" in kind


@dataclass
class Workshop:
    """Makes stores: each in a place of its own, or in one that does not exist."""

    folder: Path
    server: Callable[[], SeaweedFS]
    bucket: Callable[[], str]
    azurite: Callable[[], Azurite] | None = None

    def make(self, kind: str, prefix: str = "some/prefix", *, missing: bool = False) -> Store:
        """An empty store of that kind; `missing`: its bucket or root folder does not exist."""
        wrapper, inner = kind.rstrip(")").split("(", 1) if "(" in kind else ("", kind)
        if wrapper == "retry":
            return RetryStore(self.make(inner, prefix, missing=missing))
        if wrapper == "metered":
            return MeteredStore(self.make(inner, prefix, missing=missing), _ignore)
        if kind == "memory":
            return MemoryStore()
        if kind == "cloud":
            return CloudStore(ObstoreMemory(), name="memory", backend="memory", prefix=prefix)
        if kind == "local":
            root = self.folder / ("missing" if missing else "root")
            if not missing:
                root.mkdir()
            return LocalStore(root)
        if kind == "azure" and self.azurite:
            return azure(self.azurite(), prefix, missing=missing)
        settings = self.server().settings("no-such-bucket" if missing else self.bucket(), prefix)
        return CloudStore.s3(replace(settings, timeout=60, connect_timeout=60))


def _ignore(_: Request) -> None:
    """Nobody counts."""


async def keys_of(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    """The keys of a listing, in its order."""
    return [found.key async for page in store.list(prefix, start_after) for found in page]
