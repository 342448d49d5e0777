"""Batches produced: many partitions in a request, five requests under way with each broker, each record once.

A lane is one target partition. Its batches go out in order under consecutive sequences, so that a broker tells a
batch that comes again (it is answered as before) from one that comes too early (it is refused). But a broker forgets
producers by the timestamps of their records: after a restart, and every ten minutes, it knows nothing of one whose
records are older than a day, and would take any batch, and take it twice. So a lane that met an error first asks where
its partition ends, and sends again what is not there, one batch alone until the broker knows its sequence. Every answer
is held against the offset that the batch was to get: another one means that somebody else writes to the partition,
and ends the restore.
Source: Apache Kafka, ProducerStateManager (isProducerExpired, removeExpiredProducers); KIP-98.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from tallykeep.clock import Clock
from tallykeep.errors import RestoreError, SourceError, Unreachable
from tallykeep.runtime.backoff import Backoff
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.replies import failure
from tallykeep.systems.kafka.restoring.outgoing import Outgoing, unexpected_end
from tallykeep.systems.kafka.steps import reached
from tallykeep.systems.kafka.wire.produce import API_KEY, VERSION, Produced, produce_request, produce_response

Address = tuple[str, int]

UNDER_WAY = 5  # requests with one broker: it remembers as many batches of a producer
REQUEST = 8 << 20  # bytes of a request, about: brokers take 100 MB
QUEUE = 4 << 20  # bytes that wait in a lane, before its next piece is asked for


class Requests(Protocol):
    """What sends requests; Brokers do."""

    async def request(
        self, address: Address, lane: int, api_key: int, version: int,
        body: bytes | Sequence[bytes | memoryview], *, timeout: float, check: Callable[[], None] | None = None,
    ) -> memoryview:  # fmt: skip
        """The body of the answer; `check` is called just before the request is sent, and may raise."""
        ...


class Leaders(Protocol):
    """Who leads which partition."""

    async def leader(self, place: Place, *, again: bool) -> Address:
        """The address to send to; `again`: what was known has proved wrong."""
        ...


Position = Callable[[Place], Awaitable[int]]  # where a partition ends, once nothing more can come of what was sent


class Lane:
    """One target partition: what waits, and what was sent and not answered."""

    def __init__(self, place: Place, producing: Producing) -> None:
        self.place = place
        self._producing = producing
        self._queue: deque[Outgoing] = deque()
        self._queued = 0  # bytes
        self._under_way: deque[Outgoing] = deque()
        self._known = False  # whether the broker knows our sequences: else it would take the second batch for the first
        self._unanswered = 0  # batches sent since the last error was settled
        self._failure: SourceError | RestoreError | None = None
        self._changed = asyncio.Event()
        self._post: _Post | None = None
        self._backoff = Backoff(0.1, 5.0)
        self._failing_since: float | None = None

    def may_send(self, post: _Post) -> bool:
        """Whether there is something that can go now, by that post and no other."""
        if not self._queue or self._failure is not None or self._post is not post:
            return False
        return self._known or not self._under_way

    def next(self) -> Outgoing:
        """Take the next batch: it is under way."""
        one = self._queue.popleft()
        self._queued -= one.size
        self._under_way.append(one)
        self._unanswered += 1
        return one

    async def put(self, batches: Sequence[Outgoing]) -> None:
        """Let more batches go, in their order; returns when there is room for as many again.

        Raises: RestoreError where the target is not as it was left; SourceErrors that remained until the deadline.
        """
        self._queue.extend(batches)
        self._queued += sum(one.size for one in batches)
        await self._offer()
        await self._until(lambda: self._queued <= QUEUE)

    async def drain(self) -> None:
        """Return when everything is answered. Raises: as put."""
        await self._until(lambda: not self._queue and not self._under_way)

    async def halt(self) -> None:
        """Forget what waits, and return when everything that was sent is answered. Raises: as put."""
        self._queue.clear()
        self._queued = 0
        await self.drain()

    def answered(self, one: Outgoing, result: Produced) -> None:
        """A broker's word on a batch."""
        self._unanswered -= 1
        if not result.error and result.base_offset != one.offset:
            self._failure = RestoreError(
                f"{self.place}: records that were to get offset {one.offset} got {result.base_offset}: something else "
                "writes to it. Stop that, delete the topic and the state of this restore, and begin again."
            )
        elif self._failure is None:
            self._judge(one, result)
        self._changed.set()

    def failed(self, error: SourceError | RestoreError) -> None:
        """A batch got no answer, or none that can be told; later ones that are under way change nothing in that."""
        self._unanswered -= 1
        self._failure = self._failure or error
        self._changed.set()

    def _judge(self, one: Outgoing, result: Produced) -> None:
        if result.error:
            self._failure = failure(
                result.error, f"{self.place}: {result.message}" if result.message else str(self.place)
            )
        else:
            self._under_way.popleft()
            self._failing_since = None
            self._backoff.reset()
            self._producing.done(self.place, one)
            if not self._known and self._post:
                self._known = True
                self._post.offer(self)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while True:
            if self._failure is not None and not self._unanswered:
                await self._recover(self._failure)
            elif self._failure is None and condition():
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _recover(self, error: SourceError | RestoreError) -> None:
        """Send again what was not answered, after a while, if that can help."""
        clock = self._producing.clock
        if error.retry is None:
            raise error
        self._failing_since = clock.monotonic() if self._failing_since is None else self._failing_since
        if clock.monotonic() - self._failing_since > self._producing.patience:
            raise error
        self._producing.retried(self.place, error)
        await clock.sleep(self._backoff.delay())
        try:
            self._drop(await self._producing.position(self.place))
        except SourceError as problem:
            self._failure = problem
            return
        self._queue.extendleft(reversed(self._under_way))
        self._queued += sum(one.size for one in self._under_way)
        self._under_way.clear()
        self._failure, self._known = None, False
        await self._offer(again=True)

    def _drop(self, end: int) -> None:
        """What lies before the partition's end has arrived, though nobody said so."""
        while self._under_way and self._under_way[0].end <= end:
            self._producing.done(self.place, self._under_way.popleft())
        expected = self._under_way[0] if self._under_way else None
        if expected and end > expected.offset:
            raise RestoreError(f"{self.place}: {unexpected_end(end, expected)}")
        if expected and end < expected.offset:
            raise SourceError(f"{self.place}: it ends at {end}, and {expected.offset} had been reached.", retry=1.0)

    async def _offer(self, *, again: bool = False) -> None:
        """Let the leader's post know."""
        if again or self._post is None:
            self._post = None
            try:
                self._post = await self._producing.post(self.place, again=again)
            except SourceError as error:
                self._failure = error
                self._changed.set()
                return
        self._post.offer(self)


class Producing:
    """Posts for all brokers, as long as the context lasts. What it reports goes to `done` and `retried`."""

    def __init__(
        self, requests: Requests, leaders: Leaders, clock: Clock, *, timeout: float = 30.0, patience: float = 300.0,
        position: Position, done: Callable[[Place, Outgoing], None],
        retried: Callable[[Place, SourceError | RestoreError], None],
    ) -> None:  # fmt: skip
        """`timeout`: seconds for a request; `patience`: seconds for which a lane goes on trying."""
        self.clock = clock
        self.timeout = timeout
        self.patience = patience
        self.position = position
        self.done = done
        self.retried = retried
        self.requests = requests
        self._leaders = leaders
        self._posts: dict[Address, _Post] = {}

    def lane(self, place: Place) -> Lane:
        """A way to one partition; each has one at a time."""
        return Lane(place, self)

    async def post(self, place: Place, *, again: bool) -> _Post:
        """Of the broker that leads the partition. Raises: SourceErrors."""
        address = await self._leaders.leader(place, again=again)
        if address not in self._posts:
            self._posts[address] = _Post(self, address)
        return self._posts[address]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for post in list(self._posts.values()):
            await post.close()


class _Post:
    """Requests to one broker: each takes the next batch of as many lanes as have one."""

    def __init__(self, producing: Producing, address: Address) -> None:
        self._producing = producing
        self._address = address
        self._ready: deque[Lane] = deque()
        self._listed: set[Place] = set()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._broken = False  # whether the connection was lost, or closed for want of an answer

    def offer(self, lane: Lane) -> None:
        """The lane has batches."""
        if lane.place not in self._listed:
            self._listed.add(lane.place)
            self._ready.append(lane)
        self._send()

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    def _send(self) -> None:
        """Send what can go; after a request without an answer nothing, until every other one has its end too.

        They were on one connection: what a lane sent on it is lost with it, and must not be overtaken on a new one.
        """
        self._broken = self._broken and bool(self._exchanges)
        while not self._broken and self._ready and len(self._exchanges) < UNDER_WAY:
            if picked := self._pick():
                task = asyncio.create_task(self._exchange(picked))
                self._exchanges.add(task)
                task.add_done_callback(self._finished)

    def _check(self) -> None:
        """Raises: Unreachable where an earlier request was lost, which this one would overtake."""
        if self._broken:
            raise Unreachable(f"{self._address[0]}:{self._address[1]}: the connection was lost.")

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._exchanges.discard(task)
        if not task.cancelled():
            self._send()

    def _pick(self) -> dict[Place, tuple[Lane, Outgoing]]:
        """One batch of each lane, up to the size of a request."""
        picked: dict[Place, tuple[Lane, Outgoing]] = {}
        size, lanes = 0, len(self._ready)
        while lanes and size < REQUEST:
            lane, lanes = self._ready.popleft(), lanes - 1
            if lane.may_send(self):
                one = lane.next()
                picked[lane.place] = lane, one
                size += one.size
            if lane.may_send(self):
                self._ready.append(lane)
            else:
                self._listed.discard(lane.place)
        return picked

    async def _exchange(self, picked: dict[Place, tuple[Lane, Outgoing]]) -> None:
        body = produce_request(_by_topic(picked), acks=-1, timeout_ms=int(self._producing.timeout * 1000))
        wait = self._producing.timeout + 5
        reached("restore request sent")
        try:
            data = await self._producing.requests.request(
                self._address, 0, API_KEY, VERSION, body, timeout=wait, check=self._check
            )
            results = {Place(found.topic, found.partition): found for found in produce_response(data)}
        except SourceError as error:
            self._broken = True
            for lane, _ in picked.values():
                lane.failed(error)
            return
        reached("restore request answered")
        for place, (lane, one) in picked.items():
            if result := results.get(place):
                lane.answered(one, result)
            else:
                lane.failed(SourceError(f"{place}: the broker's answer leaves it out.", retry=1.0))


def _by_topic(
    picked: dict[Place, tuple[Lane, Outgoing]],
) -> dict[str, list[tuple[int, Sequence[bytes | memoryview]]]]:
    found: dict[str, list[tuple[int, Sequence[bytes | memoryview]]]] = {}
    for place, (_, one) in picked.items():
        found.setdefault(place.topic, []).append((place.partition, (one.head, one.payload)))
    return found
