"""A ledger that is closed while a refresh that was cancelled writes on in its thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

from tallykeep.systems.litellm.ledger import Block, Ledger


def test_it_is_closed_once_nobody_writes(tmp_path: Path) -> None:
    """What is being written is written; the file is let go after that, and never under the writer's hands."""
    ledger, begun, go_on = Ledger(tmp_path / "ledger"), Event(), Event()

    def blocks() -> Iterator[Block]:
        begun.set()
        go_on.wait(60)
        yield Block(60, 120, {}, {})

    writing = Thread(target=ledger.commit, args=(blocks(),))
    closing = Thread(target=ledger.close)
    writing.start()
    assert begun.wait(60)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    writing.join(60)
    closing.join(60)
    assert not closing.is_alive()
    again = Ledger(tmp_path / "ledger")
    assert [block.start for block in again.blocks()] == [60]
    again.close()
