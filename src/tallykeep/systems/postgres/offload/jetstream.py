"""The queue, as a client of NATS JetStream: the one module that wraps nats-py.

Two work queues, `<prefix>-wal` and `<prefix>-backup`, and for each a stream of dead letters, `<prefix>-<kind>-failed`.
Every item has a subject of its own, of which a queue takes one message: asked for again while it waits, it is not
queued twice. A lost connection is not mended here: `lost` is set, everything raises Unreachable, and who wants to go on
connects anew, where the servers are then. nats-py's own noise is not logged; an error is told once, by who handles it.
Source: NATS, JetStream Streams (WorkQueuePolicy, DiscardNewPerSubject), Consumers (AckWait, InProgress, NakWithDelay).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from tallykeep.errors import ConfigError, Malformed, Refused, Unreachable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.offload import credentials
from tallykeep.systems.postgres.offload.address import Address
from tallykeep.systems.postgres.offload.items import KINDS, Item, Kind, Letter

T = TypeVar("T")

_CONSUMER = "tallykeep"
_TIMEOUT = 15.0  # seconds for an answer: a message is synced before, which takes a busy disk some
_CLOSING = 1.0  # seconds
_PING, _PINGS = 5, 2  # seconds between two, and how many may go unanswered
ACK_WAIT = 30.0  # seconds after which a message whose taker has died is given out again
_AT_ONCE = 1000  # messages that may be on their way or wait for another try
_MOST = 100_000  # messages in a stream; what is beyond that is found by the next comparison of the tiers
_THERE_ALREADY = "per subject exceeded"  # the error has the number of any that storing meets
_OTHER_CONFIG = 10058  # stream name already in use with a different configuration


class Failed(NamedTuple):
    """A dead letter."""

    id: str  # "wal-17": its kind, and its number in the stream
    item: Item
    problem: str
    attempts: int
    time: float  # Unix seconds
    traceparent: str = ""  # of what made it necessary


class StreamState(NamedTuple):
    """How much a stream holds."""

    stream: str
    messages: int
    bytes: int


class Delivery:
    """A message that was given to us."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.attempt = int(message.metadata.num_delivered or 1)

    @property
    def letter(self) -> Letter:
        """What it says. Raises: Malformed."""
        return Letter.decode(self._message.data)

    async def done(self) -> None:
        """It is dealt with, and leaves the queue. Raises: Unreachable."""
        await _told(self._message.ack_sync(timeout=_TIMEOUT))

    async def again(self, after: float) -> None:
        """Give it out once more, in so many seconds. Raises: Unreachable."""
        await _told(self._message.nak(delay=after))

    async def working(self) -> None:
        """Still at it. Raises: Unreachable."""
        await _told(self._message.in_progress())

    async def drop(self) -> None:
        """Never give it out again. Raises: Unreachable."""
        await _told(self._message.term())


class Queue:
    """A connection, with its streams made."""

    def __init__(self, client: Client, prefix: str, lost: asyncio.Event) -> None:
        """Use `connected`."""
        self.lost = lost
        self._client = client
        self._prefix = prefix
        self._stream: JetStreamContext = client.jetstream(timeout=_TIMEOUT)
        self._takers: dict[Kind, JetStreamContext.PullSubscription] = {}

    @property
    def streams(self) -> list[str]:
        """Their names."""
        return [name for kind in KINDS for name in (self._name(kind), self._failed(kind))]

    async def put(self, letter: Letter, id: str) -> bool:
        """Queue an item; False where it waits there already. A message of the same `id` is taken once in 2 minutes.

        Raises: NotTaken where the queue is full, or has no room on its disk; Unreachable.
        """
        kind = letter.item.kind
        headers, subject = {"Nats-Msg-Id": id}, f"{self._name(kind)}.{letter.item.subject}"
        try:
            await _told(self._stream.publish(subject, letter.encode(), stream=self._name(kind), headers=headers))
        except NotTaken as error:
            if _THERE_ALREADY in str(error):
                return False
            raise
        return True

    async def take(self, kind: Kind, timeout: float) -> Delivery | None:
        """The next message of a work queue, or None when none came. For one caller a kind. Raises: Unreachable."""
        if kind not in self._takers:
            await self._consumer(kind)
        try:
            (message,) = await _told(self._takers[kind].fetch(1, timeout=timeout), nothing=True)
        except TimeoutError:
            return None
        return Delivery(message)

    async def bury(self, letter: Letter) -> None:
        """Keep a dead letter; the last of an item is kept. Raises: Unreachable."""
        kind = letter.item.kind
        subject = f"{self._failed(kind)}.{letter.item.subject}"
        await _told(self._stream.publish(subject, letter.encode(), stream=self._failed(kind)))

    async def dead(self) -> AsyncIterator[Failed]:
        """Every dead letter, in the order in which they failed. Raises: Unreachable."""
        for kind in KINDS:
            number = 1
            while (found := await self._next(kind, number)) is not None:
                number = int(found.seq or 0) + 1
                with suppress(Malformed):
                    letter = Letter.decode(found.data or b"")
                    time = found.time.timestamp() if found.time is not None else 0.0
                    yield Failed(
                        f"{kind}-{found.seq}", letter.item, letter.problem, letter.attempts, time, letter.traceparent
                    )

    async def forget(self, item: Item) -> None:
        """Remove the dead letter of an item, if there is one. Raises: Unreachable."""
        subject = f"{self._failed(item.kind)}.{item.subject}"
        await _told(self._stream.purge_stream(self._failed(item.kind), subject=subject))

    async def states(self) -> list[StreamState]:
        """How much each stream holds. Raises: Unreachable."""
        found = []
        for name in self.streams:
            state = (await _told(self._stream.stream_info(name))).state
            found.append(StreamState(name, state.messages, state.bytes))
        return found

    async def prepare(self, replicas: int) -> None:
        """Make the streams, or make them as they are to be. Raises: Unreachable; Refused without JetStream."""
        for kind in KINDS:
            work = api.StreamConfig(
                name=self._name(kind), subjects=[f"{self._name(kind)}.>"], retention=api.RetentionPolicy.WORK_QUEUE,
                discard=api.DiscardPolicy.NEW, discard_new_per_subject=True, max_msgs_per_subject=1, max_msgs=_MOST,
                storage=api.StorageType.FILE, num_replicas=replicas, duplicate_window=120,
            )  # fmt: skip
            dead = api.StreamConfig(
                name=self._failed(kind), subjects=[f"{self._failed(kind)}.>"], retention=api.RetentionPolicy.LIMITS,
                discard=api.DiscardPolicy.OLD, max_msgs_per_subject=1, max_msgs=_MOST, storage=api.StorageType.FILE,
                num_replicas=replicas,
            )  # fmt: skip
            for config in (work, dead):
                await self._make(config)

    async def give_out_anew(self) -> None:
        """Have everything that waits given out at once: whoever took it before has died. Raises: Unreachable."""
        for kind in KINDS:
            try:
                await _told(self._stream.delete_consumer(self._name(kind), _CONSUMER))
            except NotTaken as error:
                if not error.missing:
                    raise

    async def close(self) -> None:
        """Idempotent."""
        with suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await self._client.close()

    async def _make(self, config: api.StreamConfig) -> None:
        try:
            await _told(self._stream.add_stream(config))
        except NotTaken as error:
            if error.number != _OTHER_CONFIG:
                raise
            await _told(self._stream.update_stream(config))

    async def _consumer(self, kind: Kind) -> None:
        config = api.ConsumerConfig(
            durable_name=_CONSUMER, ack_policy=api.AckPolicy.EXPLICIT, ack_wait=ACK_WAIT, max_deliver=-1,
            max_ack_pending=_AT_ONCE,
        )  # fmt: skip
        await _told(self._stream.add_consumer(self._name(kind), config))
        self._takers[kind] = await _told(self._stream.pull_subscribe_bind(_CONSUMER, self._name(kind)))

    async def _next(self, kind: Kind, number: int) -> api.RawStreamMsg | None:
        name = self._failed(kind)
        try:
            return await _told(self._stream.get_msg(name, seq=number, subject=f"{name}.>", next=True))
        except NotTaken as error:
            if error.missing:
                return None
            raise

    def _name(self, kind: Kind) -> str:
        return f"{self._prefix}-{kind}"

    def _failed(self, kind: Kind) -> str:
        return f"{self._prefix}-{kind}-failed"


@asynccontextmanager
async def connected(address: Address, prefix: str, replicas: int = 1) -> AsyncIterator[Queue]:
    """A queue to work with. Raises: Unreachable; Refused for a wrong token or none of JetStream; ConfigError."""
    lost, client = asyncio.Event(), Client()

    async def closed() -> None:
        lost.set()
        for waiting in list(client._resp_map.values()):  # nats-py leaves them to wait until their time is over
            if not waiting.done():
                waiting.set_exception(nats.errors.ConnectionClosedError())

    async def quiet(_: Exception) -> None:
        return

    how = {
        "allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0, "ping_interval": _PING,
        "connect_timeout": int(_TIMEOUT), "max_outstanding_pings": _PINGS, "name": "tallykeep", "closed_cb": closed,
        "disconnected_cb": closed, "error_cb": quiet,
    }  # fmt: skip
    if address.token:
        how["token"] = address.token
    if address.credentials:
        found = await in_thread(credentials.read, address.credentials)
        how["user_jwt_cb"], how["signature_cb"] = found.jwt.encode, found.signed
    if address.ca_file:
        how["tls"] = _tls(address)
    queue = None
    try:
        await _told(client.connect(list(address.urls), **how), address.shown)  # type: ignore[arg-type]
        queue = Queue(client, prefix, lost)
        await queue.prepare(replicas)
        yield queue
    finally:
        await (Queue(client, prefix, lost) if queue is None else queue).close()


class NotTaken(Unreachable):
    """The server answered with an error: the connection is as good as before."""

    def __init__(self, error: nats.js.errors.APIError) -> None:
        super().__init__(f"The queue answered: {error.description or error.code}; nothing was queued.")
        self.number = error.err_code
        self.missing = error.code == 404


async def _told(asked: Awaitable[T], where: str = "", *, nothing: bool = False) -> T:
    """The answer; nats-py's errors as ours. `nothing`: a time-out is no error, and is passed on."""
    at = f" at {where}" if where else ""
    try:
        async with asyncio.timeout(None if nothing else 2 * _TIMEOUT):
            return await asked
    except (nats.errors.TimeoutError, TimeoutError):
        if nothing:
            raise TimeoutError from None
        raise Unreachable(f"The queue{at} does not answer; is NATS up?") from None
    except nats.errors.AuthorizationError:
        raise _not_let_in(at) from None
    except nats.js.errors.APIError as error:
        raise NotTaken(error) from None
    except nats.js.errors.NoStreamResponseError:
        raise Unreachable(f"The queue{at} has no JetStream, or no leader for its stream now.") from None
    except nats.errors.NoServersError:
        raise Unreachable(f"The queue{at} cannot be reached: nothing listens there. Is NATS up?") from None
    except (nats.errors.Error, OSError, ssl.SSLError, EOFError) as error:
        what = str(error).removeprefix("nats: ").strip("'") or type(error).__name__
        if "authorization" in what.lower():
            raise _not_let_in(at) from None
        raise Unreachable(f"The queue{at} cannot be reached: {what}.") from None


def _not_let_in(at: str) -> Refused:
    return Refused(f"The queue{at} does not let us in: check the token, the user or the credentials.")


def _tls(address: Address) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(address.ca_file))
    except OSError as error:
        raise ConfigError(f"{address.ca_file}: the CA of NATS cannot be read: {error}.") from None
