"""The conformance suite of stores: every promise of storage/store.py, over every backend and every wrapper."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.workshop import BACKENDS, KINDS, Workshop, keeps_folders, keys_of

from tallykeep.errors import Conflict, Denied, NotFound
from tallykeep.storage.chunks import chunks
from tallykeep.storage.content import Piece
from tallykeep.storage.store import Store

# A backslash is a slash to SeaweedFS; it is tried on the other backends below. No part has more than 60 letters:
# 255 bytes is the most a file name has.
_LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="/\\\x7f")
_PARTS = st.text(_LETTERS, min_size=1, max_size=60).filter(lambda part: part not in (".", ".."))
_KEYS = st.lists(_PARTS, min_size=1, max_size=4).map("/".join).filter(lambda key: not key.startswith(".tallykeep-"))
_SERVERS = [pytest.param(kind, marks=pytest.mark.server) for kind in ("s3", "azure")]
_numbers = count()
_AWKWARD = [
    "with space", " leading", "trailing ", "a+b", "50%", "a%20b", "%2F", "é", "e\u0301", "日本/語", "😀",
    "'single'", '"double"', "a&b=c?d#e", "<tag>", "a:b", "~x", "{x}|^`[y]", "...", "..a", "a..", "-x", "*",
]  # fmt: skip


@pytest.fixture
def workshop(tmp_path: Path, request: pytest.FixtureRequest) -> Workshop:
    """Servers are started for those who ask for them only."""
    servers = ("seaweedfs", "bucket", "azurite")
    return Workshop(tmp_path, *(partial(request.getfixturevalue, name) for name in servers))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which backend or wrapper."""
    name: str = request.param
    return name


@pytest.fixture
def store(kind: str, workshop: Workshop) -> Store:
    """An empty store."""
    return workshop.make(kind)


async def _fill(store: Store, *keys: str) -> None:
    for key in keys:
        await store.create(key, key.encode())


def test_is_a_store(store: Store) -> None:
    """Every backend and every wrapper is a Store, with a name and a backend for messages and labels."""
    assert isinstance(store, Store)
    assert store.name
    assert store.backend in ("filesystem", "s3", "azure", "gcs", "memory")


async def test_a_put_is_visible_when_it_has_returned(store: Store) -> None:
    """ "A put that has returned is durable and visible to read, head and list." """
    before = time.time()
    await store.create("folder/key", b"content")
    assert await store.read("folder/key") == b"content"
    listed = [found async for page in store.list() for found in page]
    assert listed == [await store.head("folder/key")]
    assert listed[0].key == "folder/key"
    assert listed[0].size == 7
    assert before - 2 < listed[0].modified < time.time() + 2  # whole seconds on S3


async def test_create_never_replaces(store: Store) -> None:
    """ "`create` is conditional": a second create raises Conflict, and the object is the first one's."""
    await store.create("key", b"first")
    with pytest.raises(Conflict, match="key is there already"):
        await store.create("key", b"second")
    assert await store.read("key") == b"first"


async def test_one_of_several_creates_wins(store: Store) -> None:
    """ "Of several creates of one key exactly one succeeds, the others raise Conflict." """
    results = await asyncio.gather(
        *(store.create("one", b"%d" % writer * 1000) for writer in range(8)), return_exceptions=True
    )
    winners = [writer for writer, result in enumerate(results) if result is None]
    assert len(winners) == 1
    assert [type(result) for result in results if result is not None] == [Conflict] * 7
    assert await store.read("one") == b"%d" % winners[0] * 1000


async def test_replace_is_idempotent(store: Store) -> None:
    """ "`replace` and `delete` are idempotent": with and without an old object, once or twice."""
    for content in (b"new", b"newer, and longer", b"short", b"short"):
        await store.replace("a/key", content)
        assert await store.read("a/key") == content
    assert await keys_of(store) == ["a/key"]


async def test_deleting_what_is_not_there_succeeds(store: Store) -> None:
    """ "`replace` and `delete` are idempotent; deleting what is not there succeeds." """
    await _fill(store, "gone", "a/stays")
    for key in ("gone", "gone", "never", "no/such/folder", "a/stays/not/a/folder"):
        await store.delete(key)
    assert await keys_of(store) == ["a/stays"]
    with pytest.raises(NotFound):
        await store.read("gone")
    await store.create("gone", b"again")


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    """ "Raises: NotFound", naming the key."""
    await _fill(store, "folder/file")
    for key in ("missing", "folder/missing", "no/such/folder", "folder/file/below"):
        with pytest.raises(NotFound, match=key):
            await store.read(key)
        with pytest.raises(NotFound, match=key):
            await store.head(key)
        with pytest.raises(NotFound, match=key):
            await store.read_range(key, 0, 1)
        with pytest.raises(NotFound, match=key):
            await store.read_range(key, 0, 0)


async def test_a_folder_is_not_an_object(store: Store) -> None:
    """Only objects can be read: what other keys begin with is NotFound."""
    await _fill(store, "a/b/c")
    with pytest.raises(NotFound):
        await store.read("a/b")
    with pytest.raises(NotFound):
        await store.head("a")


@pytest.mark.parametrize("kind", ["local", *_SERVERS, "metered(local)"])
async def test_a_missing_place_is_not_found(kind: str, workshop: Workshop) -> None:
    """ "A missing bucket or a root folder that does not exist is NotFound", also for puts: nothing is made."""
    store = workshop.make(kind, missing=True)
    with pytest.raises(NotFound):
        await keys_of(store)
    with pytest.raises(NotFound):
        await keys_of(store, "some/prefix")
    with pytest.raises(NotFound):
        await store.read("key")
    with pytest.raises(NotFound):
        await store.create("key", b"")
    with pytest.raises(NotFound):
        await store.replace("folder/key", b"")


async def test_an_empty_place_is_an_empty_listing(store: Store) -> None:
    """ "A prefix that nothing has is an empty listing." """
    assert await keys_of(store) == []
    assert await keys_of(store, "no/such/") == []
    await _fill(store, "a/b")
    assert await keys_of(store, "a/c") == []
    assert await keys_of(store, "a/b/c") == []


async def test_any_string_is_a_prefix(store: Store) -> None:
    """ "The objects whose key starts with `prefix` (any string)." """
    keys = {"a", "ab", "a/b", "a/bc", "a/b/c", "a/c", "b/a", "%"}
    await _fill(store, *(keys - {"a", "a/b"}))  # a file cannot stand where a folder does
    keys -= {"a", "a/b"}
    for prefix in ("", "a", "a/", "a/b", "a/b/", "a/bc", "b", "b/", "b/a", "%", "/", "x"):
        assert set(await keys_of(store, prefix)) == {key for key in keys if key.startswith(prefix)}, prefix


async def test_keys_ascend_in_byte_order(store: Store, kind: str) -> None:
    """ "Keys ascend in UTF-8 byte order, except on servers that keep folders", which do so in each folder."""
    keys = ["a-b", "a/b", "a/c/d", "a/c-d", "a0", "B", "é", "z", "\uffee", "😀", "a/é", "a/~"]
    if kind == "azure":
        keys.remove("😀")  # Azurite sorts by UTF-16, as JavaScript does
    await _fill(store, *keys)
    if keeps_folders(kind):
        assert await keys_of(store, "a/") == sorted(await keys_of(store, "a/"), key=lambda key: key.split("/"))
        assert sorted(await keys_of(store)) == sorted(keys)
    else:
        assert await keys_of(store) == sorted(keys, key=str.encode)


async def test_a_listing_goes_on_after_a_key(store: Store) -> None:
    """ "A listing that is started after a key of an earlier one goes on as that one would have." """
    await _fill(store, "a-b", "a/b", "a/c/d", "a/c/e", "a/c-d", "a0", "b")
    for prefix in ("", "a/", "a/c"):
        everything = await keys_of(store, prefix)
        for position, key in enumerate(everything):
            assert await keys_of(store, prefix, key) == everything[position + 1 :], (prefix, key)


async def test_a_listing_goes_on_after_a_key_that_has_gone(store: Store) -> None:
    """The key that a listing goes on after may have been deleted meanwhile."""
    await _fill(store, "l/1", "l/2", "l/3", "m/1")
    await store.delete("l/2")
    assert await keys_of(store, "l/", "l/2") == ["l/3"]
    assert await keys_of(store, "", "l/2") == ["l/3", "m/1"]


@pytest.mark.parametrize("kind", BACKENDS)
async def test_a_long_listing_comes_in_pages(store: Store) -> None:
    """ "`list` yields every key once, in pages": no page has everything, no key comes twice or never."""
    keys = [f"level/{number:016x}.ltx" for number in range(2100)]
    for start in range(0, len(keys), 50):
        await asyncio.gather(*(store.replace(key, b"") for key in keys[start : start + 50]))
    pages = [[found.key for found in page] async for page in store.list("level/")]
    assert [key for page in pages for key in page] == keys
    assert len([page for page in pages if page]) > 1


async def test_ranges(store: Store) -> None:
    """ "Bytes from `start`, up to `length`; fewer at the end of the object; none from beyond it." """
    await store.create("digits", b"0123456789")
    await store.create("empty", b"")
    for start, length, expected in (
        (0, 4, b"0123"), (3, 4, b"3456"), (8, 4, b"89"), (9, 1, b"9"), (10, 1, b""), (50, 5, b""), (2, 0, b""),
        (0, 10, b"0123456789"), (0, 99, b"0123456789"),
    ):  # fmt: skip
        assert await store.read_range("digits", start, length) == expected, (start, length)
    assert await store.read_range("empty", 0, 5) == b""


async def test_ranges_from_the_end(store: Store) -> None:
    """ "A negative `start` counts from the end; one from before the beginning is the beginning." """
    await store.create("digits", b"0123456789")
    await store.create("empty", b"")
    for start, length, expected in ((-3, 3, b"789"), (-3, 2, b"78"), (-3, 99, b"789"), (-99, 99, b"0123456789")):
        assert await store.read_range("digits", start, length) == expected, (start, length)
    assert await store.read_range("empty", -5, 5) == b""


async def test_objects_larger_than_one_part(store: Store) -> None:
    """An object comes back as it was put, whatever its size, whole or in pieces."""
    content = bytes(range(256)) * 28_000  # 6.8 MiB, more than one part of a multipart upload
    await store.replace("large", content)
    await store.create("large too", content)
    assert await store.read("large") == content
    assert await store.read("large too") == content
    pieces = [piece async for piece in chunks(store, "large", len(content), chunk=1 << 20)]
    assert [len(piece) for piece in pieces[:-1]] == [1 << 20] * 6
    assert b"".join(pieces) == content


@pytest.mark.parametrize(
    ("buffers", "content"),
    [
        ([], b""),
        ([b"", b""], b""),
        ([b"one"], b"one"),
        ((b"byte", bytearray(b"ar"), memoryview(b"view is not all")[:4]), b"bytearview"),
        ([b"", b"a", b"", b"b"], b"ab"),
        ([bytes([number % 256]) * 3 for number in range(5000)], b"".join(bytes([n % 256]) * 3 for n in range(5000))),
        ([bytes(1 << 20), b"between", bytes(6 << 20)], bytes(1 << 20) + b"between" + bytes(6 << 20)),
    ],
    ids=["none", "empty", "one", "mixed", "holes", "many", "large"],
)
async def test_an_object_in_several_buffers(store: Store, buffers: Sequence[Piece], content: bytes) -> None:
    """ "What is put may come in several buffers, which are the object in their order": also none, or empty ones."""
    await store.create("created", buffers)
    await store.replace("replaced", b"old")
    await store.replace("replaced", buffers)
    assert await store.read("created") == await store.read("replaced") == content
    assert (await store.head("created")).size == len(content)
    with pytest.raises(Conflict):
        await store.create("created", buffers)


async def test_a_buffer_that_is_no_bytes(store: Store, kind: str) -> None:
    """One buffer of another kind is as good as bytes, and what is stored does not change with it afterwards."""
    buffer = bytearray(b"0123456789")
    await store.create("key", memoryview(buffer)[2:5])
    await store.create("all of it", buffer)
    if kind != "cloud":  # obstore's memory, which stands in for a bucket there, keeps the buffer itself
        buffer[:] = b"x" * 10
    assert await store.read("key") == b"234"
    assert await store.read("all of it") == b"0123456789"


async def test_an_empty_object_is_an_object(store: Store) -> None:
    """No bytes are content too."""
    await store.create("empty", b"")
    assert await store.read("empty") == b""
    assert (await store.head("empty")).size == 0
    with pytest.raises(Conflict):
        await store.create("empty", b"")


async def test_the_etag_changes_with_the_content(store: Store) -> None:
    """An etag "changes whenever the content does", and not when nothing does."""
    await store.replace("key", b"one")
    first = (await store.head("key")).etag
    assert first is not None
    assert (await store.head("key")).etag == first
    await store.replace("key", b"two")
    assert (await store.head("key")).etag != first


@pytest.mark.parametrize(
    "key", ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\nb", "a\0b", "\x7f", "\ud800"]
)
async def test_what_is_not_a_key_is_denied(store: Store, key: str) -> None:
    """ "Any other key is Denied before a backend is asked": nothing outside the store can be named."""
    for call in (store.read, store.head, store.delete):
        with pytest.raises(Denied, match="is not a key"):
            await call(key)
    with pytest.raises(Denied, match="is not a key"):
        await store.read_range(key, 0, 1)
    for put in (store.create, store.replace):
        with pytest.raises(Denied, match="is not a key"):
            await put(key, b"")
    assert await keys_of(store) == []


async def test_awkward_keys(store: Store) -> None:
    """A key is a string of any letters: spaces, percent signs, quotes and other scripts come back as they went."""
    await _fill(store, *_AWKWARD)
    assert sorted(await keys_of(store)) == sorted(_AWKWARD)
    for key in _AWKWARD:
        assert await store.read(key) == key.encode()
        assert (await store.head(key)).key == key


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(key=_KEYS, content=st.binary(max_size=64))
async def test_any_key_and_any_content(store: Store, key: str, content: bytes) -> None:
    """What was put under a key is read, listed and deleted under that very key."""
    key = f"{next(_numbers)}/{key}"  # SeaweedFS takes a second to forget the folders of an earlier example
    await store.create(key, content)
    try:
        assert await store.read(key) == content
        assert await keys_of(store) == [key]
        assert await keys_of(store, key) == [key]
    finally:
        await store.delete(key)
    assert await keys_of(store) == []


@pytest.mark.parametrize("kind", ["memory", "local", "cloud"])
async def test_folders_come_and_go_with_their_objects(store: Store) -> None:
    """ "Keys are relative": what was a folder may be an object once the folder's objects are gone, and back."""
    for _ in range(2):
        await _fill(store, "a/b/c")
        await store.delete("a/b/c")
        await _fill(store, "a")
        await store.delete("a")


@pytest.mark.parametrize("kind", ["memory", "local", "cloud"])
async def test_a_backslash_is_a_letter(store: Store) -> None:
    """Except on SeaweedFS."""
    await _fill(store, "a\\b", "a/b")
    assert await keys_of(store) == ["a/b", "a\\b"]


@pytest.mark.parametrize("kind", ["local", "cloud", *_SERVERS])
async def test_a_store_sees_its_prefix_only(kind: str, workshop: Workshop) -> None:
    """ "A store is bound to a prefix; keys are relative to it": neighbours with the same letters are not in it."""
    outer = workshop.make(kind, "")
    await _fill(outer, "db/key", "db2/key", "d", "dbx")
    inner = _below(outer, "db")
    assert await keys_of(inner) == ["key"]
    assert await inner.read("key") == b"db/key"
    await inner.replace("new", b"")
    assert (await outer.head("db/new")).size == 0


async def test_close_is_idempotent(store: Store) -> None:
    """ "Let connections and handles go. Idempotent." """
    await store.close()
    await store.close()


def _below(store: Store, prefix: str) -> Store:
    """The part of a store under `prefix`, as a store."""
    from tallykeep.storage.cloud import CloudStore
    from tallykeep.storage.local import LocalStore

    if isinstance(store, LocalStore):
        return LocalStore(store.root / prefix)
    assert isinstance(store, CloudStore)
    return CloudStore(store._client, name=f"{store.name}/{prefix}", backend=store.backend, prefix=prefix)
