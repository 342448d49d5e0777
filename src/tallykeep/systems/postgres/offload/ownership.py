"""Whose tier 2 it is: one tier 1 writes to it, and no other.

    owner.json      in tier 2, made once: the id of the tier 1 that writes there, and on which machine it was
    server.json     in tier 1: its id

A server that was rebuilt has a new id, and does not go on where another may still be writing: a human says that the
other is gone, by taking over. The other one, if it is there after all, reads that at its next look and stops.
"""

from __future__ import annotations

import json
import secrets
import socket
from contextlib import suppress
from typing import NamedTuple

from tallykeep.clock import Clock
from tallykeep.errors import Conflict, IntegrityError, NotFound, Refused
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.cluster import Cluster, Tier
from tallykeep.systems.postgres.offload.uploading import put_identity

OWNER, SERVER = "owner.json", "server.json"


class Owner(NamedTuple):
    """Who writes to a tier 2."""

    id: str  # 32 hex digits, random
    host: str  # where that was when it began, for people
    since: float  # Unix seconds


async def claim(cluster: Cluster, tier: Tier, clock: Clock, *, take_over: bool = False) -> bool:
    """See that tier 2 is ours to write, or make it so where it is nobody's; False while tier 1 knows no cluster yet.

    `take_over`: whoever it belonged to. Raises: Refused where it belongs to another server, or holds another cluster;
    ConfigError for another key; IntegrityError; StoreErrors.
    """
    await tier.check_key(make=True)
    if not await put_identity(cluster, tier):
        return False
    ours = await _ours(cluster, clock)
    theirs = await _owner(tier.root)
    if theirs is None:
        with suppress(Conflict):
            await tier.root.create(OWNER, _encoded(ours))
        theirs = await _owner(tier.root) or ours
    if theirs.id != ours.id and take_over:
        await tier.root.replace(OWNER, _encoded(ours))
    elif theirs.id != ours.id:
        raise Refused(
            f"{tier.root.name}: another server writes there, on {theirs.host} when it began. Nothing is copied to "
            f"tier 2 by this one. If the other is gone for good, start this one with --take-over {cluster.name}."
        )
    return True


async def take_over(cluster: Cluster, tier: Tier, clock: Clock) -> str:
    """Make tier 2 ours, also before tier 1 knows its cluster: on which machine the server was that it belonged to.

    "": it was ours, or nobody's. Raises: ConfigError for another key; IntegrityError; StoreErrors.
    """
    await tier.check_key(make=True)
    ours, theirs = await _ours(cluster, clock), await _owner(tier.root)
    if theirs is not None and theirs.id == ours.id:
        return ""
    await tier.root.replace(OWNER, _encoded(ours))
    return "" if theirs is None else theirs.host


async def _ours(cluster: Cluster, clock: Clock) -> Owner:
    """Who this tier 1 is."""
    store = cluster.tier1.root
    found = await _read(store, SERVER)
    if found is None:
        ours = Owner(secrets.token_hex(16), socket.gethostname(), round(clock.time(), 3))
        with suppress(Conflict):
            await store.create(SERVER, _encoded(ours))
        found = await _read(store, SERVER)
    assert found is not None, "it was just made"
    return found


async def _owner(store: Store) -> Owner | None:
    return await _read(store, OWNER)


async def _read(store: Store, key: str) -> Owner | None:
    try:
        found = json.loads(await store.read(key))
        return Owner(str(found["id"]), str(found["host"]), float(found["since"]))
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{store.name}/{key}: not as it was written; bring it back from a copy.") from None


def _encoded(owner: Owner) -> bytes:
    return json.dumps(owner._asdict()).encode()
