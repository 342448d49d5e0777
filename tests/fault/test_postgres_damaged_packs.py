"""A pack that was found damaged: the next backup stores anew what lay there, and heals those before it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.support.offloading import back_up, contents_of, offload_now, opened, postgres_settings, write
from tests.support.postgres_verify import flipped

from tallykeep.clock import SystemClock
from tallykeep.metrics import Book
from tallykeep.storage.store import Store
from tallykeep.systems.postgres.verifying.verify import verify_tier

CLOCK = SystemClock()
KEYS = pytest.mark.parametrize("key", [False, True], ids=["plain", "encrypted"])
SHARED = random.Random(6).randbytes(20_000)


async def damage(store: Store, how: str) -> str:
    """Do something to the one pack of a repository; its key."""
    (key,) = [each.key async for page in store.list("packs/") for each in page]
    if how == "missing":
        await store.delete(key)
    else:
        await flipped(store, key, 100)
    return key


@KEYS
@pytest.mark.parametrize("how", ["flipped", "missing"])
async def test_the_next_backup_heals_tier_1(tmp_path: Path, key: bool, how: str) -> None:
    """No backup relies on a pack that was found damaged or missing; one brought back is relied on again."""
    cluster = await opened(postgres_settings(tmp_path, key=key))
    write(cluster, 2.5)
    tier = cluster.tier1
    first = await back_up(cluster, "aa" * 16, [SHARED])
    (pack,) = (await tier.repository(CLOCK)).packs
    whole = await tier.base.read(pack.key)
    assert await damage(tier.base, how) == pack.key
    await verify_tier(cluster, tier, CLOCK, patience=0)
    assert (await tier.repository(CLOCK)).damaged == {pack.key}
    second = await back_up(cluster, "bb" * 16, [SHARED], started=2.0)
    repository = await tier.repository(CLOCK)
    for entry in (first, second):
        for file in (await repository.files(entry)).files:
            assert {repository.place(id)[0].key for id in file.chunks}.isdisjoint({pack.key})
    if how == "missing":
        await tier.base.create(pack.key, whole)
    else:
        await tier.base.replace(pack.key, whole)
    await verify_tier(cluster, tier, CLOCK, patience=0)
    repository = await tier.repository(CLOCK)
    assert not repository.damaged and await contents_of(repository, second) == [SHARED]


@KEYS
async def test_the_next_copy_heals_tier_2(tmp_path: Path, key: bool) -> None:
    """A pack that tier 2 names and has damaged is sent again with the next backup that needs it."""
    settings = postgres_settings(tmp_path, key=key)
    cluster = await opened(settings)
    assert cluster.tier2 is not None
    write(cluster, 2.5)
    await back_up(cluster, "aa" * 16, [SHARED])
    await offload_now(cluster, settings, Book(), CLOCK)
    bad = await damage(cluster.tier2.base, "flipped")
    await verify_tier(cluster, cluster.tier2, CLOCK, patience=0)
    second = await back_up(cluster, "bb" * 16, [SHARED], started=2.0)
    assert not (await offload_now(cluster, settings, Book(), CLOCK)).failed
    repository = await cluster.tier2.repository(CLOCK)
    (file,) = (await repository.files(second)).files
    pack, _ = repository.place(file.chunks[0])
    assert repository.damaged == {bad} != {pack.key}
    assert await cluster.tier2.base.read(pack.key) == await cluster.tier1.base.read(bad)
