"""How a running program is told to stop: SIGTERM or Ctrl-C once stops it cleanly, a second time at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading

_FORCED = 130

_log = logging.getLogger(__name__)


def stop_requested() -> asyncio.Event:
    """An event that the first SIGINT or SIGTERM sets. The second ends the process with status 130."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask(number: signal.Signals) -> None:
        if event.is_set():
            _log.warning("stopped at once on a second %s", number.name)
            _leave(_FORCED)
        _log.info("stopping on %s", number.name)
        event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask, number)
    return event


def leave_within(seconds: float, status: int) -> None:
    """End the process with `status` after `seconds`, whatever still hangs by then. A clean end comes before it."""
    timer = threading.Timer(seconds, _late, args=(seconds, status))
    timer.daemon = True
    timer.start()


def _late(seconds: float, status: int) -> None:
    _log.error("stopping took more than %g s: left what hangs", seconds)
    _leave(status)


def _leave(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
