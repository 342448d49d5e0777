"""The Store: what tallykeep asks of an object store or a folder, and what it promises in return.

Keys are relative, "/"-separated, without a leading slash, without empty, "." or ".." parts, without control
characters; any other key is Denied before a backend is asked. A store is bound to a prefix; keys below are relative
to it. Every backend and every wrapper passes one conformance suite (tests/contract/test_store.py).

Promises
- An object is seen whole or not at all: a put that fails or is cut leaves the old object, or none.
- `create` is conditional: of several creates of one key exactly one succeeds, the others raise Conflict. After
  a lost reply a retried create may meet its own object: the caller tells by the content.
- `replace` and `delete` are idempotent; deleting what is not there succeeds.
- What is put may come in several buffers, which are the object in their order. They must not change until the put
  has returned; after one that was Unavailable or was cancelled they may still be read, so they are not used again.
- A put that has returned is durable and visible to read, head and list.
- `list` yields every key once, in pages, so that 100,000 objects never stand in memory as one list unless the
  caller wants them to. Keys ascend in UTF-8 byte order, except on servers that keep folders (SeaweedFS), which
  put "a/b" before "a-b": sort where order matters across folders. An object that comes or goes while a listing
  runs may be in it or not.
- A listing that is started after a key of an earlier one goes on as that one would have.
- A listing that fails in the middle raises: it never just ends.
- No call waits for ever: a server that does not answer is Unavailable after the store's time-out. A put or delete
  that ends so may have been done all the same, or be done later.
- Errors are StoreErrors: NotFound, Denied, Unavailable, Corrupt, Conflict. Only Unavailable is worth a retry.
- No message, name or repr holds a secret.

What not every backend can: folders and SeaweedFS cannot hold both "a" and "a/b", and have parts of 255 bytes at
most; SeaweedFS takes a backslash for a slash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from tallykeep.storage.content import Content


class ObjectInfo(NamedTuple):
    """What a listing says of one object."""

    key: str
    size: int  # bytes
    modified: float  # Unix seconds: upload time on object stores, mtime in folders
    etag: str | None  # changes whenever the content does; None where the backend has none


@runtime_checkable
class Store(Protocol):
    """An object store or a folder, bound to a prefix."""

    name: str  # for messages and labels: "s3://bucket/prefix", "file:///path"; never with credentials
    backend: str  # filesystem, s3, azure, gcs, memory

    def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """Pages of the objects whose key starts with `prefix` (any string) and sorts after `start_after`.

        A prefix that nothing has is an empty listing; a missing bucket or a root folder that does not exist is
        NotFound. A page may be empty.
        """
        ...

    async def head(self, key: str) -> ObjectInfo:
        """What a listing would say of one object. Raises: NotFound."""
        ...

    async def read(self, key: str) -> bytes:
        """The whole object; chunks() reads what is too large for memory, or for one time-out.

        Raises: NotFound; Corrupt where other bytes come than were announced; Unavailable where a reply breaks off.
        """
        ...

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes from `start`, up to `length`; fewer at the end of the object; none from beyond it.

        A negative `start` counts from the end; one from before the beginning is the beginning. Raises: NotFound.
        """
        ...

    async def create(self, key: str, data: Content) -> None:
        """Put a new object. Raises: Conflict where one is there already; NotFound for a missing bucket or root."""
        ...

    async def replace(self, key: str, data: Content) -> None:
        """Put an object, over an old one if there is one. Raises: NotFound for a missing bucket or root."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; nothing to remove is success."""
        ...

    async def close(self) -> None:
        """Let connections and handles go. Idempotent."""
        ...
