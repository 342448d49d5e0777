"""Blocking work off the event loop, on threads that nobody has to wait for.

asyncio.to_thread is not used: its pool is small, so a few reads hung on a dead NFS server would stop all others,
and the interpreter joins its threads at exit, so they would stop the program from stopping too. A daemon thread
a call costs about 50 microseconds: work is handed over in large pieces, never per file.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

_numbers = itertools.count(1)
_watched: contextvars.ContextVar[set[Thread] | None] = contextvars.ContextVar("_watched", default=None)


@contextmanager
def threads_noted() -> Iterator[set[Thread]]:
    """The threads that `in_thread` starts in this context and in tasks made in it.

    A cancelled caller is gone while its thread may hang on: whoever must not start the same work twice looks here.
    """
    threads: set[Thread] = set()
    token = _watched.set(threads)
    try:
        yield threads
    finally:
        _watched.reset(token)


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns or raises. A caller that is cancelled leaves at once; the thread ends by itself."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    call = partial(contextvars.copy_context().run, partial(function, *args, **kwargs))
    name = f"{getattr(function, '__name__', 'work')}-{next(_numbers)}"
    thread = Thread(target=_run, args=(call, loop, future), name=name, daemon=True)
    noted = _watched.get()
    if noted is not None:
        noted.difference_update([other for other in noted if not other.is_alive()])
        noted.add(thread)
    thread.start()
    return await future


def _run(call: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    error: BaseException | None = None
    result: T | None = None
    try:
        result = call()
    except BaseException as raised:
        error = raised
    try:
        loop.call_soon_threadsafe(_settle, future, result, error)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def _settle(future: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(cast("T", result))
    elif isinstance(error, StopIteration):  # a future cannot carry it
        future.set_exception(RuntimeError("the function raised StopIteration"))
    else:
        future.set_exception(error)
