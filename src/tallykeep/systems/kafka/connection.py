"""A connection to a broker: opened and authenticated by aiokafka, then read by ourselves.

aiokafka is wrapped here, and used for what it does well: TLS, SASL and the first words with a broker. Once it has
authenticated, the transport gets another protocol, which receives each response into one buffer of its size: nothing
is copied between the socket and the batches. Only what aiokafka promises is used: connect() returns the transport's
writer, close() closes it. docs/decisions/0013-kafka-connections.md has the measurements.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence

from aiokafka import errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection

from tallykeep.errors import Malformed, Refused, SourceError, Unreachable
from tallykeep.systems.kafka.security import Security

__all__ = ["CLIENT_ID", "Connection", "Security"]

CLIENT_ID = "tallykeep"
_LARGEST = 1 << 30  # bytes of a response; a Fetch response is larger than asked for only by one batch
_PIECE = 192 << 10  # bytes that are worth a turn of the loop; asyncio reads 256 KiB of TLS at once
_RECORD = 32 << 10  # bytes: more than a TLS record has
_HEADER = struct.Struct(">ihhih")  # size, API key, version, correlation id, length of the client id
_SIZE = struct.Struct(">i")
_DENIED = (
    kafka_errors.AuthenticationFailedError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
)

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # an error is told once, by who handles it


class Connection:
    """An open, authenticated connection. Requests are answered in their order; many may be under way."""

    def __init__(self, opened: AIOKafkaConnection, transport: asyncio.Transport, address: str) -> None:
        self.address = address  # HOST:PORT
        self._opened = opened  # closes the transport when it goes, so it is held
        self._transport = transport
        self._frames = _Frames(address, _patience(transport))
        self._number = 0
        transport.set_protocol(self._frames)

    @classmethod
    async def open(cls, host: str, port: int, security: Security, *, timeout: float = 30.0) -> Connection:
        """Connect and authenticate within `timeout` seconds.

        Raises: Unreachable; Refused where one side does not trust the other; ConfigError for files of TLS.
        """
        address = f"{host}:{port}"
        conn = AIOKafkaConnection(
            host, port, client_id=CLIENT_ID, request_timeout_ms=int(timeout * 1000), ssl_context=security.context(),
            security_protocol=security.protocol, sasl_mechanism=security.mechanism,
            sasl_plain_username=security.username, sasl_plain_password=security.password.reveal(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                _, writer = await conn.connect()
        except (kafka_errors.KafkaError, OSError, TimeoutError, EOFError, AssertionError) as error:
            conn.close()
            raise _translated(error, address, timeout) from None
        except asyncio.CancelledError:
            conn.close()
            raise
        return cls(conn, writer.transport, address)

    @property
    def lost(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._frames.lost

    async def request(
        self, api_key: int, version: int, body: bytes | Sequence[bytes | memoryview], *, timeout: float = 60.0
    ) -> memoryview:
        """The answer's body. After an error the connection is closed, as answers could no longer be told apart.

        Only for versions without flexible headers. Raises: Unreachable; Malformed.
        """
        return await self.receive(self.send(api_key, version, body), timeout=timeout)

    def send(
        self, api_key: int, version: int, body: bytes | Sequence[bytes | memoryview]
    ) -> asyncio.Future[memoryview]:
        """Send a request, in one piece or in several; what `receive` waits for. Answers come in this order."""
        self._number += 1
        pieces = [body] if isinstance(body, bytes) else body
        client = CLIENT_ID.encode()
        size = _HEADER.size - _SIZE.size + len(client) + sum(map(len, pieces))
        answer = self._frames.expect(self._number)
        head = _HEADER.pack(size, api_key, version, self._number, len(client)) + client
        self._transport.writelines([head, *pieces])
        return answer

    async def receive(self, answer: asyncio.Future[memoryview], *, timeout: float = 60.0) -> memoryview:
        """The body of an answer. As for `request`."""
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            self.close()
            raise Unreachable(f"{self.address}: Kafka gave no answer within {timeout:g} s.") from None
        except (SourceError, asyncio.CancelledError):
            self.close()
            raise

    def close(self) -> None:
        """Close it, whatever the broker does: with TLS it would be waited for. Idempotent."""
        self._opened.close()
        self._transport.abort()


class _Frames(asyncio.BufferedProtocol):
    """Puts each response into a buffer of its own size, and gives it to who waits for it."""

    def __init__(self, address: str, wake_at: Callable[[int], None]) -> None:
        self._address = address
        self._wake_at = wake_at
        self._waiting: deque[tuple[int, asyncio.Future[memoryview]]] = deque()
        self._lost: SourceError | None = None
        self._begin()

    @property
    def lost(self) -> bool:
        """Whether no more answers come."""
        return self._lost is not None

    def expect(self, number: int) -> asyncio.Future[memoryview]:
        """What will hold the answer with that correlation id."""
        future: asyncio.Future[memoryview] = asyncio.get_running_loop().create_future()
        if self._lost:
            future.set_exception(self._lost)
        else:
            self._waiting.append((number, future))
        return future

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled < len(self._buffer):
            self._wake_at(len(self._buffer) - self._filled)
            return
        try:
            if self._sized:
                self._deliver(self._buffer)
                self._begin()
            else:
                self._resize(_SIZE.unpack(self._buffer)[0])
        except Malformed as error:
            self._fail(error)
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Unreachable(f"{self._address}: Kafka closed the connection{f': {exc}' if exc else ''}."))

    def eof_received(self) -> bool:
        return False

    def _begin(self) -> None:
        self._wake_at(0)
        self._buffer, self._filled, self._sized = memoryview(bytearray(_SIZE.size)), 0, False

    def _resize(self, size: int) -> None:
        if not _SIZE.size <= size <= _LARGEST:
            raise Malformed(f"{self._address}: announces an answer of {size} bytes; is it a Kafka broker?")
        self._buffer, self._filled, self._sized = memoryview(bytearray(size)), 0, True
        self._wake_at(size)

    def _deliver(self, answer: memoryview) -> None:
        (number,) = _SIZE.unpack_from(answer)
        wanted, future = self._waiting.popleft() if self._waiting else (None, None)
        if future is None or number != wanted:
            raise Malformed(f"{self._address}: answers request {number} where {wanted} was to be answered.")
        if not future.done():
            future.set_result(answer[_SIZE.size :])

    def _fail(self, error: SourceError) -> None:
        self._lost = self._lost or error
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._lost)


def _patience(transport: asyncio.Transport) -> Callable[[int], None]:
    """Let the kernel wake us for pieces of an answer of which so many bytes are missing: not for each TLS record.

    A broker sends 16 KiB at a time over TLS, and each costs a turn of the loop. What is waited for is always less than
    what must still come: TLS only adds to it, but for a record of which a part has been read already.
    """
    sock = transport.get_extra_info("socket")
    least = 1

    def wake_at(missing: int) -> None:
        nonlocal least
        wanted = max(1, min(_PIECE, missing - _RECORD))
        if wanted != least and sock is not None and sock.fileno() >= 0:
            least = wanted
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)

    return wake_at


def _translated(error: Exception, address: str, timeout: float) -> SourceError:
    """What an error of aiokafka, TLS or the socket comes to."""
    if isinstance(error, _DENIED):
        return Refused(f"{address}: Kafka refused the login: {error}. Check mechanism, user and password.")
    if isinstance(error, ssl.SSLError):
        return Refused(f"{address}: no TLS that can be trusted: {error.reason or error}. Check the CA file.")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{address}: Kafka did not take the connection within {timeout:g} s.")
    why = str(error) or type(error).__name__
    return Unreachable(f"{address}: no connection to Kafka: {why}. Check address and protocol.")
