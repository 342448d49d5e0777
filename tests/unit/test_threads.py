from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from tallykeep.runtime.threads import in_thread


async def test_result_and_error_come_back() -> None:
    """in_thread returns what the function returns and raises what it raises, from a daemon thread."""
    assert await in_thread(divmod, 7, 2) == (3, 1)
    assert await in_thread(lambda: threading.current_thread().daemon)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_stop_iteration_does_not_hang_the_caller() -> None:
    """StopIteration, which a future refuses, arrives as a RuntimeError."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(next, iter(()))


async def test_many_hung_calls_do_not_stop_the_next() -> None:
    """A hundred calls that hang leave room for one that does not, and their callers can leave."""
    gate = threading.Event()
    hung = [asyncio.create_task(in_thread(gate.wait)) for _ in range(100)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(in_thread(int, "7"), 60) == 7
    for task in hung:
        task.cancel()
    results = await asyncio.gather(*hung, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    gate.set()


def test_hung_call_does_not_keep_the_interpreter() -> None:
    """A program whose thread hangs for ever still ends."""
    code = """
import asyncio, threading
from tallykeep.runtime.threads import in_thread
async def main():
    try:
        await asyncio.wait_for(in_thread(threading.Event().wait), 0.05)
    except TimeoutError:
        print("left")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"left\n"
