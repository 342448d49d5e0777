"""An object store in the cloud, through obstore: S3 and what speaks its protocol.

obstore is the client that is wrapped here: its errors are translated (answers.py), its own retries are off
(retry.py has one deadline for all), and no call waits for ever. How a bucket is reached is said in s3.py.
obstore lists whole path segments; what is promised is any string as a prefix, so the rest is sifted here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore import exceptions

from tallykeep.errors import ConfigError, Corrupt, NotFound
from tallykeep.storage.answers import Place, timed_out, translated
from tallykeep.storage.content import Content, Piece, pieces_of
from tallykeep.storage.keys import checked, folder_of, is_hopeless
from tallykeep.storage.s3 import S3Settings, s3_client
from tallykeep.storage.store import ObjectInfo

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

T = TypeVar("T")

_BEYOND = re.compile(r"status code: 416|StartTooLarge")  # a range from behind the end, or of an empty object
_PAGE = 1000  # objects; what S3 sends in one reply
_GRACE = 1.0  # seconds after its time-out in which obstore itself should have given up, and knows more of the reason


class CloudStore:
    """The objects of a bucket whose keys begin with `prefix` and a slash."""

    def __init__(
        self, client: ObjectStore, *, name: str, backend: str, prefix: str = "", server: str = "", timeout: float = 30.0
    ) -> None:
        """`server` is named in messages; `timeout`: seconds for one request, which the client should know as well."""
        self.name = name
        self.backend = backend
        self._client = client
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self._server = server or name
        self._timeout = timeout

    @classmethod
    def s3(cls, settings: S3Settings) -> CloudStore:
        """The store that `settings` describe. Sends nothing yet. Raises: ConfigError."""
        return cls(
            s3_client(settings),
            name=settings.url,
            backend="s3",
            prefix=settings.prefix,
            server=settings.endpoint or "AWS",
            timeout=settings.timeout,
        )

    def __repr__(self) -> str:
        return f"CloudStore({self.name!r})"

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        if is_hopeless(prefix):
            return
        wanted = self._prefix + prefix
        stream = obstore.list(
            self._client,
            folder_of(wanted).rstrip("/") or None,
            offset=self._prefix + start_after if start_after else None,
            chunk_size=_PAGE,
        )
        cut, sift = len(self._prefix), wanted != folder_of(wanted)
        while True:
            try:
                page = await self._call("listing", prefix, stream.__anext__())
            except StopAsyncIteration:
                return
            if sift:
                page = [found for found in page if found["path"].startswith(wanted)]
            yield _infos(page, cut)

    async def head(self, key: str) -> ObjectInfo:
        path = self._path(key)
        found = await self._call("looking at", key, obstore.head_async(self._client, path))
        info = _infos([found], len(self._prefix))[0]
        if self.backend == "azure" and info.etag:  # in quotes here, and without in its listings
            return info._replace(etag=info.etag.strip('"'))
        return info

    async def read(self, key: str) -> bytes:
        return await self._call("reading", key, self._read(self._path(key)))

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        return await self._call("reading", key, self._read_range(self._path(key), start, length))

    async def create(self, key: str, data: Content) -> None:
        path = self._path(key)
        await self._call("writing", key, obstore.put_async(self._client, path, _body(data), mode="create"))

    async def replace(self, key: str, data: Content) -> None:
        path = self._path(key)
        await self._call("writing", key, obstore.put_async(self._client, path, _body(data), use_multipart=False))

    async def delete(self, key: str) -> None:
        path = self._path(key)
        with suppress(NotFound):  # Azure says so
            await self._call("removing", key, obstore.delete_async(self._client, path))

    async def close(self) -> None:
        """Connections are let go with the store itself."""

    async def _read(self, path: str) -> bytes:
        reply = await obstore.get_async(self._client, path)
        data = bytes(await reply.bytes_async())
        if len(data) != reply.meta["size"]:
            raise Corrupt(f"{self._server} announced {reply.meta['size']} bytes of {path} and sent {len(data)}.")
        return data

    async def _read_range(self, path: str, start: int, length: int) -> bytes:
        if start < 0 and self.backend == "azure":  # which has no ranges from the end
            start = max(0, (await obstore.head_async(self._client, path))["size"] + start)
        wanted: Any = (start, start + length) if start >= 0 else {"suffix": -start}
        if length <= 0:
            await obstore.head_async(self._client, path)
            return b""
        try:
            reply = await obstore.get_async(self._client, path, options={"range": wanted})
            return bytes(await reply.bytes_async())[:length]
        except exceptions.GenericError as error:
            if _BEYOND.search(str(error)):
                return b""
            raise

    async def _call(self, doing: str, key: str, reply: Awaitable[T]) -> T:
        """The reply. Raises: a StoreError, also when there is none in time."""
        place = Place(doing, self.name, key, self._server, self._timeout)
        try:
            async with asyncio.timeout(self._timeout + _GRACE):
                return await reply
        except TimeoutError:
            raise timed_out(place) from None
        except (exceptions.BaseError, FileNotFoundError, ValueError) as error:
            raise translated(error, place) from None

    def _path(self, key: str) -> str:
        return self._prefix + checked(key)


def made(client: Callable[[], ObjectStore], name: str) -> ObjectStore:
    """What `client` makes. Raises: ConfigError with the first line of what obstore says, which holds no secret."""
    try:
        return client()
    except Exception as error:  # several unrelated types
        raise ConfigError(f"{name}: {str(error).splitlines()[0]}") from None


def never_again(timeout: float) -> RetryConfig:
    """obstore's own retries are off: retry.py has one deadline for all."""
    return {"max_retries": 0, "retry_timeout": timedelta(seconds=timeout)}


def client_options(name: str, timeout: float, connect_timeout: float, ca_file: Path | None) -> ClientConfig:
    """How obstore connects, for the store of that name. Raises: ConfigError for a CA file that cannot be read."""
    options: ClientConfig = {
        "allow_http": True,  # whether to is said by the endpoint's scheme
        "timeout": timedelta(seconds=timeout),
        "read_timeout": timedelta(seconds=timeout),
        "connect_timeout": timedelta(seconds=connect_timeout),
    }
    if ca_file is not None:
        try:
            options["root_certificate"] = ca_file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{name}: the CA file {ca_file} cannot be read: {error.strerror}.") from None
    return options


def _body(content: Content) -> Piece | Sequence[Piece]:
    """One piece goes out where it lies; obstore puts several together, on a thread of its own."""
    pieces = pieces_of(content)
    return pieces[0] if len(pieces) == 1 else pieces


_fields = itemgetter("path", "size", "last_modified", "e_tag")
_made = tuple.__new__  # half the cost of calling a NamedTuple: a listing is judged by what it costs an object


def _infos(page: Sequence[Any], cut: int) -> list[ObjectInfo]:
    """What obstore found, with `cut` letters off each key."""
    rows = map(_fields, page)
    return [_made(ObjectInfo, (path[cut:], size, moment.timestamp(), etag)) for path, size, moment, etag in rows]
