"""`keep`: an object in tier 2 under a name that is given once, whatever lies there, and proved after it was put.

What protects an upload: the put is conditional, so that nothing is ever replaced unseen; S3 gets the SHA-256 of the
body in the signature and refuses another body; a body that is cut is no object at all. Afterwards the object's size,
and where the store tells an MD5 as its ETag (S3 and GCS, unless they encrypt with a key of KMS) that too, are compared
with what was sent; an ETag that is no such MD5 costs a read of the object. Azure and folders tell the size alone.
Source: Amazon S3, PutObject, Object (ETag); Authenticating Requests, x-amz-content-sha256.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from typing import TypeVar

from tallykeep.errors import Conflict, Corrupt, IntegrityError
from tallykeep.runtime.threads import in_thread
from tallykeep.storage.store import Store

T = TypeVar("T")

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_log = logging.getLogger(__name__)


async def keep(store: Store, key: str, data: bytes, meaning: Callable[[bytes], T]) -> bool:
    """See that the store holds `data`, or what means the same, under `key`; whether it holds these very bytes.

    `meaning` tells what an object says, and raises IntegrityError for one that is damaged: such a one is replaced. It
    is called in a thread. Raises: IntegrityError where something else lies there, and is sound; StoreErrors.
    """
    try:
        await store.create(key, data)
    except Conflict:
        return await _settle(store, key, data, meaning)
    await prove(store, key, data)
    return True


async def prove(store: Store, key: str, data: bytes) -> None:
    """Compare what was put with what was sent. Raises: Corrupt; StoreErrors."""
    found = await store.head(key)
    told = _MD5.fullmatch(found.etag or "")
    if found.size == len(data) and (told is None or told[1] == await in_thread(_md5, data)):
        return
    if await store.read(key) != data:
        raise Corrupt(f"{store.name}/{key}: holds other bytes than were sent there. It is put again at the next try.")


async def _settle(store: Store, key: str, data: bytes, meaning: Callable[[bytes], T]) -> bool:
    """Something lies there: ours, the same in other bytes, damaged, or another's."""
    there = await store.read(key)
    if there == data:
        return True
    ours = await in_thread(meaning, data)  # before anything is replaced by it
    try:
        if await in_thread(meaning, there) == ours:
            return False
    except IntegrityError as error:
        _log.warning("%s/%s was damaged, and is replaced by what tier 1 holds: %s", store.name, key, error)
        await store.replace(key, data)
        await prove(store, key, data)
        return True
    raise IntegrityError(
        f"{store.name}/{key}: holds something else than tier 1 does, and is sound. Another server may have written "
        "there. Nothing was replaced: find out which of the two is wanted, and remove the other."
    )


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
