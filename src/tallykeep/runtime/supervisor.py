"""Services under supervision: restarted with backoff when they fail, stopped in bounded time.

Only the supervisor decides on restarts, and it alone reads an error's `retry` for that. A service that returns by
itself has failed, too: its contract is to run until it is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.metrics import Book
from tallykeep.runtime import families
from tallykeep.runtime.backoff import Backoff
from tallykeep.runtime.work import Service

STEADY = 60.0  # seconds of running after which a service counts as recovered and its backoff begins anew
GRACE = 5.0  # seconds that stopping may take

_log = logging.getLogger(__name__)


class Supervisor:
    """Keeps services running until `stop`."""

    def __init__(self, book: Book, clock: Clock, backoff: Callable[[], Backoff] = Backoff) -> None:
        self._book = book
        self._clock = clock
        self._backoff = backoff
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self, services: Iterable[Service]) -> None:
        """Begin to run services. To be called on the event loop."""
        self._stopping = False
        for service in services:
            self._tasks.append(asyncio.create_task(self._keep(service), name=f"service-{service.name}"))

    async def stop(self, grace: float = GRACE) -> None:
        """Cancel every service and wait for their ends, at most `grace` seconds; what hangs is named and left."""
        self._stopping = True
        await stop_tasks(self._tasks, grace)
        self._tasks.clear()

    async def _keep(self, service: Service) -> None:
        backoff = self._backoff()
        self._book.add(families.SERVICE_RESTARTS, 0, service=service.name)
        while True:
            started = self._clock.monotonic()
            self._book.set(families.SERVICE_UP, 1, service=service.name)
            retry = await self._attempt(service)
            self._book.set(families.SERVICE_UP, 0, service=service.name)
            if self._stopping:  # what failed just then may have hidden the order: a TaskGroup that ends takes none
                return
            if self._clock.monotonic() - started >= STEADY:
                backoff.reset()
            await self._clock.sleep(max(backoff.delay(), retry or 0.0))
            self._book.add(families.SERVICE_RESTARTS, service=service.name)

    @staticmethod
    async def _attempt(service: Service) -> float | None:
        """Run it until it fails. The seconds its error asks to wait, or None."""
        extra = {"service": service.name}
        try:
            await service.run()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the order to stop; any other cancellation is the service's own failure
        except TallykeepError as error:
            _log.error("%s failed: %s", service.name, error, extra={**extra, "code": error.code})
            return error.retry
        except Exception:
            _log.exception("%s failed: a defect; it is started again", service.name, extra=extra)
            return None
        _log.error("%s ended by itself; it is started again", service.name, extra=extra)
        return None


async def stop_tasks(tasks: Iterable[asyncio.Task[None]], grace: float = GRACE) -> None:
    """Cancel tasks and wait for their ends, at most `grace` seconds. Errors on the way out are logged."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    if not pending:
        return
    done, hung = await asyncio.wait(pending, timeout=grace)
    for task in done:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("%s failed while stopping: %s", task.get_name(), error, exc_info=error)
    for task in hung:
        _log.error("%s did not stop within %g s and is left", task.get_name(), grace)
