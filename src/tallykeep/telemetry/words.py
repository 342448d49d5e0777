"""What OpenTelemetry's exporters say of a failure, kept for the one line that tallykeep logs about it.

They log each retry of each request; an error is logged once here, where it is handled, with what they said last.
"""

from __future__ import annotations

import logging
import re
import threading

from tallykeep.metrics import Book
from tallykeep.telemetry import families as f

_LOGGER = "opentelemetry.exporter"  # the SDK's own warnings go to the log as they are
_GIVEN_UP = re.compile(r"due to timeout, max retries or shutdown|aborting retry")
_log = logging.getLogger(__name__)


class _LastWords(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: dict[int, str] = {}  # by thread

    def emit(self, record: logging.LogRecord) -> None:
        thread, text = threading.get_ident(), record.getMessage().split("\n", 1)[0]
        if not (thread in self.said and _GIVEN_UP.search(text)):  # which says less than the errors before it
            self.said[thread] = text


_words = _LastWords()


def listen() -> None:
    """Keep what the exporters log from now on to itself, as the last words of each thread."""
    logger = logging.getLogger(_LOGGER)
    logger.propagate = False
    if _words not in logger.handlers:
        logger.addHandler(_words)


class Account:
    """What came of the exports of one signal: counted in the Book, logged when it changes."""

    def __init__(self, signal: str, place: str, book: Book) -> None:
        self._signal = signal
        self._place = place
        self._book = book
        self._failing = False
        for result in (f.SUCCESS, f.FAILURE):
            book.add(f.EXPORTS, 0, signal=signal, result=result)
            book.add(f.ITEMS, 0, signal=signal, result=result)

    def succeeded(self, items: int, now: float) -> None:
        """An export of `items` points or spans has arrived."""
        self._count(f.SUCCESS, items)
        _words.said.pop(threading.get_ident(), None)
        self._book.set(f.LAST_EXPORT, now, signal=self._signal)
        if self._failing:
            _log.info("%s reach %s again", self._signal, self._place)
        self._failing = False

    def failed(self, items: int, reason: str = "") -> None:
        """An export of `items` points or spans has not; without a reason it is what the exporter said last."""
        self._count(f.FAILURE, items)
        said = _words.said.pop(threading.get_ident(), "") or "the exporter gave no reason"
        if not self._failing:
            _log.warning("%s do not reach %s: %s", self._signal, self._place, reason or said)
        self._failing = True

    def _count(self, result: str, items: int) -> None:
        self._book.add(f.EXPORTS, signal=self._signal, result=result)
        self._book.add(f.ITEMS, items, signal=self._signal, result=result)
