"""Retries with patience, counting of requests, pieces ahead: what the wrappers add to a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from tests.support.clock import FakeClock
from tests.support.workshop import keys_of

from tallykeep.errors import Conflict, Corrupt, Denied, NotFound, StoreError, Unavailable
from tallykeep.storage.chunks import chunks
from tallykeep.storage.content import Content
from tallykeep.storage.memory import MemoryStore
from tallykeep.storage.metered import MeteredStore, Request
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.store import ObjectInfo


class Hurried(FakeClock):
    """A clock on which sleeping takes no time of the test's."""

    async def sleep(self, seconds: float) -> None:
        self._now += seconds


class Moody(MemoryStore):
    """Raises `errors` one after another, a listing each time after its first page; then behaves."""

    def __init__(self, *errors: StoreError) -> None:
        super().__init__()
        self.errors = list(errors)
        self.calls = 0
        self.started_after: list[str] = []

    def _mood(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        self.started_after.append(start_after)
        async for page in super().list(prefix, start_after):
            yield page
            self._mood()

    async def read(self, key: str) -> bytes:
        self._mood()
        return await super().read(key)

    async def create(self, key: str, data: Content) -> None:
        await super().create(key, data)
        self._mood()  # the reply is lost


class TestRetry:
    """RetryStore."""

    async def test_unavailable_is_tried_again(self) -> None:
        """Waits double, with jitter of a half, from what the error asks for."""
        clock, inner = Hurried(), Moody(*(Unavailable("overloaded", retry=2.0) for _ in range(3)))
        await inner.replace("key", b"content")
        start = clock.monotonic()
        assert await RetryStore(inner, clock=clock).read("key") == b"content"
        assert inner.calls == 4
        assert (2 + 4 + 8) / 2 <= clock.monotonic() - start <= 2 + 4 + 8

    @pytest.mark.parametrize("error", [Denied("no"), NotFound("no"), Corrupt("no"), Conflict("no")])
    async def test_nothing_else_is(self, error: StoreError) -> None:
        """ "Only Unavailable is worth a retry." """
        inner = Moody(error)
        with pytest.raises(type(error)):
            await RetryStore(inner, clock=FakeClock()).read("key")
        assert inner.calls == 1

    async def test_an_error_that_will_not_mend_is_not(self) -> None:
        """`retry` is None "where none makes sense"."""
        error = Unavailable("a certificate")
        error.retry = None
        inner = Moody(error)
        with pytest.raises(Unavailable):
            await RetryStore(inner, clock=FakeClock()).read("key")
        assert inner.calls == 1

    async def test_the_deadline_ends_it(self) -> None:
        """No try begins later than the deadline, and the last error is what the caller gets."""
        clock = Hurried()
        inner = Moody(*(Unavailable(f"try {number}") for number in range(1000)))
        start = clock.monotonic()
        with pytest.raises(Unavailable) as failure:
            await RetryStore(inner, clock=clock, deadline=30).read("key")
        assert clock.monotonic() - start <= 30
        assert str(failure.value) == f"try {inner.calls - 1}"
        assert 4 <= inner.calls <= 10

    async def test_a_listing_goes_on_where_it_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every key once, nothing listed twice, and progress renews the deadline."""
        monkeypatch.setattr("tallykeep.storage.memory._PAGE", 2)
        clock, inner = Hurried(), Moody(*(Unavailable("cut", retry=8.0) for _ in range(5)))
        keys = [f"{number:02}" for number in range(12)]
        for key in keys:
            await MemoryStore.create(inner, key, b"")
        assert await keys_of(RetryStore(inner, clock=clock, deadline=9)) == keys
        assert inner.started_after == ["", "01", "03", "05", "07", "09"]

    async def test_a_create_may_meet_its_own_object(self) -> None:
        """The Conflict of a second try is passed on: "the caller tells by the content"."""
        inner = Moody(Unavailable("the reply was lost"))
        store = RetryStore(inner, clock=Hurried())
        with pytest.raises(Conflict):
            await store.create("lease", b"mine")
        assert await store.read("lease") == b"mine"


class TestMetered:
    """MeteredStore."""

    async def test_every_request_is_reported(self) -> None:
        """Operation, bytes both ways, objects listed, error code, duration and key."""
        seen: list[Request] = []
        store = MeteredStore(MemoryStore(), seen.append, clock=FakeClock())
        await store.create("key", b"12345")
        await store.replace("key", b"123")
        await store.read("key")
        await store.read_range("key", 1, 1)
        await store.head("key")
        await keys_of(store)
        await store.delete("key")
        for failing in (store.read("key"), store.head("key")):
            with pytest.raises(NotFound):
                await failing
        assert seen == [
            Request("create", 0.0, 5, 0, 0, "", "key"),
            Request("replace", 0.0, 3, 0, 0, "", "key"),
            Request("read", 0.0, 0, 3, 0, "", "key"),
            Request("read", 0.0, 0, 1, 0, "", "key"),
            Request("head", 0.0, 0, 0, 0, "", "key"),
            Request("list", 0.0, 0, 0, 1, "", ""),
            Request("list", 0.0, 0, 0, 0, "", ""),
            Request("delete", 0.0, 0, 0, 0, "", "key"),
            Request("read", 0.0, 0, 0, 0, "not_found", "key"),
            Request("head", 0.0, 0, 0, 0, "not_found", "key"),
        ]

    async def test_a_listing_that_breaks_off(self) -> None:
        """The pages it had and the error it ended with."""
        seen: list[Request] = []
        inner = Moody(Unavailable("cut"))
        await MemoryStore.create(inner, "key", b"")
        with pytest.raises(Unavailable):
            await keys_of(MeteredStore(inner, seen.append, clock=FakeClock()))
        assert [(request.objects, request.error) for request in seen] == [(1, ""), (0, "unavailable")]


class Slow(MemoryStore):
    """Notes which ranges are asked for, and how many at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.at_once = self.most_at_once = 0

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        self.asked.append((start, length))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            return await super().read_range(key, start, length)
        finally:
            self.at_once -= 1


class TestChunks:
    """chunks()."""

    @pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 35])
    async def test_the_pieces_are_the_object(self, size: int) -> None:
        """In order, each of the size asked for but the last."""
        store, content = MemoryStore(), bytes(range(size))
        await store.replace("key", content)
        pieces = [piece async for piece in chunks(store, "key", size, chunk=10)]
        assert b"".join(pieces) == content
        assert [len(piece) for piece in pieces] == [min(10, size - start) for start in range(0, size, 10)]

    async def test_memory_is_bounded(self) -> None:
        """No more than `ahead` + 1 pieces are under way, however slow the caller is."""
        store = Slow()
        await store.replace("key", bytes(100))
        async for _ in chunks(store, "key", 100, chunk=10, ahead=2):
            await asyncio.sleep(0.001)
            assert len(store.asked) <= 10
        assert store.most_at_once == 3

    async def test_a_caller_that_leaves_leaves_nothing_running(self) -> None:
        """What was fetched ahead is cancelled."""
        store = Slow()
        await store.replace("key", bytes(100))
        pieces = chunks(store, "key", 100, chunk=10, ahead=3)
        await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        assert store.at_once == 0
        assert len(store.asked) <= 5

    async def test_an_object_shorter_than_listed_is_corrupt(self) -> None:
        """What was listed with more bytes than it has is never handed out as whole."""
        store = MemoryStore()
        await store.replace("key", bytes(15))
        with pytest.raises(Corrupt, match="listed with 20 bytes and ends after 15"):
            [piece async for piece in chunks(store, "key", 20, chunk=10)]

    async def test_an_object_that_has_vanished_is_not_found(self) -> None:
        """So that who reads it may look for what has come in its place."""
        with pytest.raises(NotFound):
            [piece async for piece in chunks(MemoryStore(), "key", 20, chunk=10)]
