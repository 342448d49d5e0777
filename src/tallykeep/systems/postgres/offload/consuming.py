"""The service of the queue: hints go in, and what they name is copied, several at a time, with retries.

WAL never waits for it. Hints come from the receiver's thread; when too many wait, or NATS is down, they are dropped,
and the comparison of the tiers finds what they said. What fails is tried again, later each time; after its last
attempt, or at once where another makes no sense, it becomes a dead letter. Memory: 1000 hints; `parallel` segments of
WAL and one base backup on their way, and as much again for a moment after the connection was lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress

from tallykeep.clock import Clock
from tallykeep.errors import IntegrityError, Malformed, TallykeepError, Unreachable
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.supervisor import stop_tasks
from tallykeep.runtime.threads import in_thread
from tallykeep.runtime.tracing import carrier
from tallykeep.systems.postgres.offload.address import Address
from tallykeep.systems.postgres.offload.items import BACKUP, WAL, Item, Kind, Letter
from tallykeep.systems.postgres.offload.jetstream import ACK_WAIT, Delivery, NotTaken, Queue, connected
from tallykeep.systems.postgres.offload.work import NotOurs, Worker
from tallykeep.systems.postgres.settings import QueueSettings

_HINTS = 1000
_TAKE = 20.0  # seconds that a question for the next message stays open
_HEARTBEAT = ACK_WAIT / 3
_SOON = 2.0  # seconds until a message is looked at again that came before the first comparison
_GIVEN_BACK = 10  # times that what is another server's is given back to the queue
_END = 2.0  # seconds that work has to end
_ORDERED = 0.1  # seconds until it is told so again
_STARTING = 5.0  # seconds in which nobody wonders that there is no queue yet
_log = logging.getLogger(__name__)


class QueueService:
    """Service. `queue` is the connection while there is one."""

    def __init__(
        self, worker: Worker, settings: QueueSettings, address: Callable[[], Address], clock: Clock, parallel: int
    ) -> None:
        """`address` is asked before each connection, in a thread."""
        self.name = "postgres-queue"
        self.queue: Queue | None = None
        self.tried = asyncio.Event()  # there is a connection, or there was time enough for one
        self.unheard: Callable[[], None] = lambda: None  # called on the loop with each hint that could not be queued
        self._worker = worker
        self._settings = settings
        self._address = address
        self._clock = clock
        self._parallel = parallel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hints: asyncio.Queue[Letter] = asyncio.Queue(_HINTS)
        self._served = False
        self._works: set[asyncio.Task[None]] = set()
        self._deferred: Counter[Item] = Counter()  # how often each was given to us when nothing could be tried
        self._said = ""

    async def run(self) -> None:
        """Serve until cancelled; a queue that is down is waited for."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._run()
        finally:
            await stop_tasks(self._works, _END)

    async def _run(self) -> None:
        backoff, began = Backoff(0.5, 15.0), self._clock.monotonic()
        while True:
            try:
                address = await in_thread(self._address)
                async with connected(address, self._settings.prefix, self._settings.replicas) as queue:
                    self._tell("", f"the queue is at {address.shown}")
                    backoff.reset()
                    await self._serve(queue)
            except TallykeepError as error:
                if self._clock.monotonic() - began > _STARTING:
                    self.tried.set()
                    self._tell(str(error), f"{error} WAL and base backups are copied without it meanwhile.")
            self._drop_hints()
            await self._clock.sleep(backoff.delay())

    def hint(self, item: Item, heard: Callable[[], None] = lambda: None) -> None:
        """Something new to copy; `heard` is called on the loop. From any thread; never blocks, never raises."""
        loop, letter = self._loop, Letter(item, carrier())
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._hinted, letter, heard)

    async def ask(self, item: Item) -> bool:
        """Queue something that is missing; False where the queue is down or does not take it."""
        if self.queue is None:
            return False
        try:
            await self.queue.put(Letter(item, carrier()), f"{_id(item)}/{secrets.token_hex(4)}")
        except Unreachable:
            return False
        return True

    async def forget(self, item: Item) -> None:
        """Remove the dead letter of an item; where the queue is down it is left to a later comparison."""
        if self.queue is not None:
            with suppress(Unreachable):
                await self.queue.forget(item)

    # --- hints

    def _hinted(self, letter: Letter, heard: Callable[[], None]) -> None:
        heard()
        if self.queue is None:
            self.unheard()
            return
        try:
            self._hints.put_nowait(letter)
        except asyncio.QueueFull:
            self.unheard()

    def _drop_hints(self) -> None:
        while not self._hints.empty():
            self._hints.get_nowait()
            self.unheard()

    async def _publish(self, queue: Queue) -> None:
        while True:
            letter = await self._hints.get()
            try:
                await queue.put(letter, _id(letter.item))
            except NotTaken:  # it is full, and work goes on
                self.unheard()
            except Unreachable:
                self.unheard()
                raise

    # --- work

    async def _serve(self, queue: Queue) -> None:
        """Until the connection is lost. Raises: Unreachable."""
        self.queue = queue
        self.tried.set()
        try:
            if not self._served:
                await queue.give_out_anew()
            self._served = True
            await self._remember(queue)
            await _until_one_ends(
                self._publish(queue), self._consume(queue, WAL, self._parallel), self._consume(queue, BACKUP, 1),
                _until_lost(queue),
            )  # fmt: skip
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            self.queue = None

    async def _remember(self, queue: Queue) -> None:
        """Dead letters of before: they show as failed until what they name has been copied."""
        async for dead in queue.dead():
            standing = self._worker.standings.get(dead.item.cluster)
            if standing is not None:
                standing.failed.setdefault(dead.item, dead.problem)

    async def _consume(self, queue: Queue, kind: Kind, parallel: int) -> None:
        gate = asyncio.Semaphore(parallel)
        async with asyncio.TaskGroup() as group:
            while True:
                await gate.acquire()
                delivery = await queue.take(kind, _TAKE)
                if delivery is None:
                    gate.release()
                    continue
                group.create_task(self._handle(queue, kind, delivery)).add_done_callback(lambda _: gate.release())

    async def _handle(self, queue: Queue, kind: Kind, delivery: Delivery) -> None:
        """Deal with one message. Raises: Unreachable."""
        try:
            letter = delivery.letter
        except Malformed as error:
            _log.error("%s", error)
            await delivery.drop()
            return
        if letter.item.cluster not in self._worker.standings:
            await self._not_ours(delivery, letter.item)
            return
        beating = asyncio.create_task(self._beat(delivery))
        try:
            failed = letter.item in self._failed_of(letter.item)
            await asyncio.shield(self._begun(letter))
            if failed:
                await queue.forget(letter.item)
            await self._done(delivery, letter.item)
        except Unreachable:
            raise
        except TallykeepError as error:
            await self._failure(queue, delivery, letter, error)
        except Exception as error:
            _log.exception("%s: copying it met a defect", letter.item)
            await self._failure(queue, delivery, letter, error)
        finally:
            beating.cancel()

    def _begun(self, letter: Letter) -> asyncio.Task[None]:
        """The work itself, which a lost connection does not cut off: what has been stored would not be counted."""
        task = asyncio.create_task(self._worker.do(letter.item, letter.traceparent))
        self._works.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._works.discard(task)
        _heard(task)

    async def _failure(self, queue: Queue, delivery: Delivery, letter: Letter, error: Exception) -> None:
        """Later again, or never."""
        settings, item = self._settings, letter.item
        attempt = max(delivery.attempt - self._deferred[item], 1)
        if isinstance(error, NotOurs):
            await self._not_now(delivery, item)
            return
        most = settings.wal_attempts if item.kind == WAL else settings.backup_attempts
        given_up = attempt >= most or isinstance(error, IntegrityError)
        self._worker.standings[item.cluster].troubled(item, str(error), given_up=given_up)
        if given_up:
            try:
                await queue.bury(letter._replace(problem=str(error), attempts=attempt))
            except NotTaken:  # no room for dead letters: it stays what it is
                await delivery.again(settings.retry_at_most)
            else:
                await self._done(delivery, item)
        else:
            await delivery.again(min(settings.retry_after * 2.0 ** (attempt - 1), settings.retry_at_most))

    async def _not_now(self, delivery: Delivery, item: Item) -> None:
        """Soon, when the tiers have been compared; never where tier 2 is another's: that finds it when it is ours."""
        if self._worker.standings[item.cluster].owned is False:
            await self._done(delivery, item)
        else:
            self._deferred[item] += 1
            await delivery.again(min(_SOON, self._settings.retry_at_most))

    async def _not_ours(self, delivery: Delivery, item: Item) -> None:
        """Of another server, which shares the streams by mistake, or nobody's any more: given back some times."""
        if delivery.attempt < _GIVEN_BACK:
            await delivery.again(min(_SOON, self._settings.retry_at_most))
            return
        _log.warning(
            "%s: the queue held it for a cluster which is none of this server's. Where another server has that, give "
            "each a queue.prefix of its own.", item,
        )  # fmt: skip
        await delivery.drop()

    async def _done(self, delivery: Delivery, item: Item) -> None:
        """It leaves the queue."""
        self._deferred.pop(item, None)
        await delivery.done()

    def _failed_of(self, item: Item) -> dict[Item, str]:
        standing = self._worker.standings.get(item.cluster)
        return {} if standing is None else standing.failed

    async def _beat(self, delivery: Delivery) -> None:
        """Say that we are at it, so that the message is not given to another."""
        while True:
            await asyncio.sleep(_HEARTBEAT)
            with suppress(Unreachable):
                await delivery.working()

    def _tell(self, key: str, message: str) -> None:
        """Log a state once."""
        if self._said != key:
            _log.log(logging.WARNING if key else logging.INFO, "%s", message)
        self._said = key


def _first(error: BaseException) -> BaseException:
    """The first that is no group itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _until_one_ends(*works: Coroutine[None, None, None]) -> None:
    """Run all of them until one ends or fails, and end the others. Raises: what that one raises.

    No TaskGroup: one that is cancelled while it ends its tasks goes on as if it had not been (Python 3.11 and 3.12).
    """
    tasks = [asyncio.create_task(work) for work in works]
    for task in tasks:
        task.add_done_callback(_heard)
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        while pending := [task for task in tasks if not task.done()]:
            for task in pending:  # again: wait_for of Python 3.11 drops the order where an answer comes with it
                task.cancel()
            await asyncio.wait(pending, timeout=_ORDERED)
    for task in ended:
        task.result()


def _heard(task: asyncio.Task[None]) -> None:
    """Nobody may be there any more to whom it is told."""
    if not task.cancelled():
        task.exception()


async def _until_lost(queue: Queue) -> None:
    await queue.lost.wait()
    raise Unreachable("The connection to the queue was lost.")


def _id(item: Item) -> str:
    """The same for the same: what is hinted at twice within the streams' window is queued once."""
    return f"{item.kind}/{item.cluster}/{item.name}"
