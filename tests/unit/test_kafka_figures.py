"""What engines report becomes the families of the contract, and what people see."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence, Set
from threading import Thread

from tests.support.clock import FakeClock

from tallykeep.errors import Unavailable, Unreachable
from tallykeep.metrics import Book, Distribution, Family, Sample
from tallykeep.storage.metered import Request
from tallykeep.systems.kafka import families
from tallykeep.systems.kafka.backup_request import Stored
from tallykeep.systems.kafka.display import Display
from tallykeep.systems.kafka.figures import BackupFigures, ResetFigures, RestoreFigures, StorageFigures, operation_of
from tallykeep.systems.kafka.manifest import GapEntry, SegmentEntry
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.rates import Rate
from tallykeep.systems.kafka.segment import Sizes

ZERO, ONE = Place("orders", 0), Place("orders", 1)
WHERE = {"topic": "orders", "partition": "0", "backup_id": "daily"}


def told(book: Book, family: Family, **labels: str) -> object:
    """The value of one series."""
    series = [sample for sample in book.read() if sample.family is family]
    found = [sample.value for sample in series if dict(zip(family.labels, sample.labels, strict=True)) == labels]
    assert len(found) == 1, (family.name, labels, series)
    return found[0]


def a_segment(records: int, uncompressed: int, stored: int, algorithm: str = "zstd", partition: int = 0) -> Stored:
    entry = SegmentEntry(
        "orders", "0" * 32, partition, 0, records, records, 1, 2, stored, stored, uncompressed,
        "topics/a", "h", "topics/b", "h", 10,
    )  # fmt: skip
    return Stored(entry, {algorithm: Sizes(uncompressed, stored)})


def test_every_series_of_a_run_begins_at_zero() -> None:
    """Before anything is done, counters of each partition and of likely errors are there."""
    book = Book()
    BackupFigures(book, "daily", FakeClock()).targeted(ZERO, 100)
    for family in (families.RECORDS, families.BACKUP_BYTES, families.SEGMENTS, families.GAPS, families.SKIPPED):
        assert told(book, family, **WHERE) == 0
    assert told(book, families.ERRORS, operation="backup", error_type="KAFKA_CONNECTION_FAILED") == 0
    assert told(book, families.RETRIES, operation="backup", reason="unreachable") == 0
    assert told(book, families.SNAPSHOT_TARGET, backup_id="daily") == 100
    assert told(book, families.SNAPSHOT_REMAINING, backup_id="daily") == 100


def test_what_is_committed_is_counted() -> None:
    """Records, bytes, segments, ratio by algorithm and the time of the commit."""
    book, clock = Book(), FakeClock()
    figures = BackupFigures(book, "daily", clock)
    figures.targeted(ZERO, 100)
    figures.targeted(ONE, 50)
    figures.committed([a_segment(60, 6000, 2000), a_segment(40, 4000, 3000), a_segment(50, 500, 500, "none", 1)])
    figures.remaining(ZERO, 0)
    assert told(book, families.RECORDS, **WHERE) == 100
    assert told(book, families.BACKUP_BYTES, **WHERE) == 10_000
    assert told(book, families.SEGMENTS, **WHERE) == 2
    assert told(book, families.COMPRESSED, topic="orders", backup_id="daily") == 5500
    assert told(book, families.COMPRESSION, backup_id="daily", algorithm="zstd") == 2
    assert told(book, families.COMPRESSION, backup_id="daily", algorithm="none") == 1
    assert told(book, families.LAST_COMMIT, backup_id="daily") == clock.time()
    assert told(book, families.SNAPSHOT_REMAINING, backup_id="daily") == 50
    assert (figures.totals.done, figures.totals.target, figures.totals.left) == (100, 150, 50)


def test_bytes_as_they_came_where_none_were_counted() -> None:
    """`accounting: wire` leaves the uncompressed size out; then the bytes that came are counted."""
    book = Book()
    BackupFigures(book, "daily", FakeClock()).committed([a_segment(1, 0, 700)])
    assert told(book, families.BACKUP_BYTES, **WHERE) == 700


async def test_rates_are_of_the_last_ten_seconds() -> None:
    """The gauges follow what was committed lately, and are 0 once the run has ended."""
    book, clock = Book(), FakeClock()
    figures = BackupFigures(book, "daily", clock)
    await clock.advance(20)
    figures.committed([a_segment(100, 5000, 50)])
    await clock.advance(5)
    figures.ticked()
    assert told(book, families.RECORD_RATE, backup_id="daily") == 10
    assert told(book, families.BYTE_RATE, backup_id="daily") == 500
    await clock.advance(10)
    figures.ticked()
    assert told(book, families.RECORD_RATE, backup_id="daily") == 0
    figures.finished("success")
    assert told(book, families.BYTE_RATE, backup_id="daily") == 0
    duration = told(book, families.DURATION, backup_id="daily", status="success")
    assert isinstance(duration, Distribution)
    assert duration.total == 35


class Peeped(Book):
    """Another thread reads it after each change, as soon as it may: pages are rendered on threads."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[Sequence[Sample]] = []
        self._readers: list[Thread] = []

    def set(self, family: Family, value: float | str, **labels: object) -> None:
        super().set(family, value, **labels)
        self._readers.append(Thread(target=lambda: self.pages.append(self.read())))
        self._readers[-1].start()
        self._readers[-1].join(0.02)

    def seen(self, *wanted: Family) -> Set[tuple[object, ...]]:
        """What pages have had of these families, one series each; None for nothing."""
        for reader in self._readers:
            reader.join()
        pages = [{sample.family: sample.value for sample in page} for page in self.pages]
        return {tuple(page.get(family) for family in wanted) for page in pages}


def test_a_page_has_the_whole_news() -> None:
    """Whoever reads while it is told sees records and what remains add up, and a run that has ended at its end."""
    book = Peeped()
    figures = BackupFigures(book, "daily", FakeClock())
    figures.targeted(ZERO, 100)
    with figures.together():
        figures.committed([a_segment(60, 6000, 2000)])
        figures.remaining(ZERO, 40)
    seen = book.seen(families.RECORDS, families.SNAPSHOT_TARGET, families.SNAPSHOT_REMAINING)
    assert seen <= {(None, None, None), (0.0, 100.0, 100.0), (60.0, 100.0, 40.0)}
    book = Peeped()
    restore = RestoreFigures(book, "daily", FakeClock())
    restore.targeted(0)
    restore.finished("success")
    ended = {
        progress for duration, progress in book.seen(families.RESTORE_DURATION, families.RESTORE_PROGRESS) if duration
    }
    assert ended == {100.0}


def test_gaps_and_what_they_cost() -> None:
    """A gap is counted once, its offsets all."""
    book = Book()
    figures = BackupFigures(book, "daily", FakeClock())
    figures.gap(GapEntry("orders", "0" * 32, 0, 10, 30, "log_start"))
    figures.skipped(ZERO, 20)
    assert told(book, families.GAPS, **WHERE) == 1
    assert told(book, families.SKIPPED, **WHERE) == 20


async def test_a_restore_knows_when_it_will_be_done() -> None:
    """Progress, rate and time left follow what was acknowledged; at the end they are 100, 0 and 0."""
    book, clock = Book(), FakeClock()
    figures = RestoreFigures(book, "daily", clock)
    figures.targeted(1000)
    await clock.advance(10)
    figures.restored(ZERO, 250, 9000)
    figures.ticked()
    assert told(book, families.RESTORE_PROGRESS, backup_id="daily") == 25
    assert told(book, families.RESTORE_RATE, backup_id="daily") == 25
    assert told(book, families.RESTORE_ETA, backup_id="daily") == 30
    assert told(book, families.RESTORED, **WHERE) == 250
    assert told(book, families.RESTORED_BYTES, topic="orders", backup_id="daily") == 9000
    figures.finished("success")
    assert told(book, families.RESTORE_PROGRESS, backup_id="daily") == 100
    assert (
        told(book, families.RESTORE_ETA, backup_id="daily") == told(book, families.RESTORE_RATE, backup_id="daily") == 0
    )


def test_a_failed_restore_is_not_complete() -> None:
    """Progress stays where it was."""
    book = Book()
    figures = RestoreFigures(book, "daily", FakeClock())
    figures.targeted(1000)
    figures.restored(ZERO, 100, 1)
    figures.failed(Unreachable("x"))
    figures.finished("failure")
    assert told(book, families.RESTORE_PROGRESS, backup_id="daily") == 10
    assert told(book, families.ERRORS, operation="restore", error_type="KAFKA_CONNECTION_FAILED") == 1


def test_a_restore_of_nothing_is_complete() -> None:
    """With nothing to restore, progress ends at 100 all the same."""
    book = Book()
    figures = RestoreFigures(book, "daily", FakeClock())
    figures.targeted(0)
    figures.finished("success")
    assert told(book, families.RESTORE_PROGRESS, backup_id="daily") == 100


def test_percentiles_of_resets_are_exact() -> None:
    """The companion gauge has the value of rank ceil(p * n); the histogram has all of them."""
    book = Book()
    figures = ResetFigures(book)
    for number in range(100, 0, -1):
        figures.reset("billing", Place("orders", number), number / 100, "success")
    figures.finished("billing", 2.0, "success")
    for percentile, value in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert told(book, families.RESET_PERCENTILE, consumer_group="billing", percentile=percentile) == value
    latency = told(book, families.RESET_LATENCY, consumer_group="billing")
    assert isinstance(latency, Distribution)
    assert sum(latency.counts) == 100
    assert told(book, families.RESET_PARTITIONS, consumer_group="billing", status="success") == 100


def test_storage_is_counted_by_what_was_asked() -> None:
    """Bytes and times of reads and writes, errors by their codes, and tries that came after them."""
    book = Book()
    figures = StorageFigures(book, "backup", "daily", "s3")
    figures(Request("create", 0.2, 100, 0, 0, "", "topics/orders/0"))
    figures(Request("create", 0.2, 10, 0, 0, "", "manifest/00000000000000000001"))
    figures(Request("read", 0.1, 0, 70, 0, "", "x"))
    figures(Request("create", 0.1, 0, 0, 0, "unavailable", "x"))
    figures.retried(Unavailable("x"))
    assert told(book, families.STORAGE_WRITTEN, backend="s3", backup_id="daily") == 110
    assert told(book, families.STORAGE_READ_BYTES, backend="s3", backup_id="daily") == 70
    assert told(book, families.STORAGE_ERRORS, backend="s3", operation="create", error="unavailable") == 1
    assert told(book, families.RETRIES, operation="backup", reason="unavailable") == 1
    for operation in ("segment", "checkpoint"):
        written = told(book, families.STORAGE_WRITE, backend="s3", operation=operation)
        assert isinstance(written, Distribution)
        assert sum(written.counts) == 1
    assert operation_of("snapshots/x.json") == "manifest"


def test_a_rate_has_a_beginning() -> None:
    """Before ten seconds are over it is an average since the start; at the start it is 0."""
    rate = Rate(100.0)
    assert rate.at(100.0) == 0
    rate.add(101.0, 50)
    assert rate.at(102.0) == 25
    assert rate.at(1000.0) == 0


async def test_the_line_that_people_see() -> None:
    """Bar, records, rates, lag, and how long it will take."""
    clock = FakeClock()
    figures = BackupFigures(Book(), "daily", clock)
    figures.targeted(ZERO, 1000)
    await clock.advance(10)
    figures.committed([a_segment(250, 10 << 20, 1)])
    figures.remaining(ZERO, 750)
    figures.lag(ZERO, 800)
    line = Display("backup", figures, stream=io.StringIO()).line()
    assert line == (
        "backup [#####...............]  25%  250 of 1,000 records  1.0 MiB/s, 25 records/s  lag 800  ETA 30.0s"
    )


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = asyncio.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.drawn.set()
        return super().write(text)


async def test_a_terminal_has_one_line_that_goes_in_the_end() -> None:
    """The line is drawn over itself, and cleared before the result; silent, nothing is written, a log waits."""
    figures = BackupFigures(Book(), "daily", FakeClock())
    terminal, silent, log = Terminal(), Terminal(), io.StringIO()
    async with (
        Display("backup", figures, interval=0.001, stream=log),
        Display("backup", figures, interval=0.001, silent=True, stream=silent),
        Display("backup", figures, interval=0.001, stream=terminal),
    ):
        await terminal.drawn.wait()
    assert terminal.getvalue().startswith("\r\x1b[Kbackup [")
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "\n" not in terminal.getvalue()
    assert silent.getvalue() == log.getvalue() == ""
