"""Leader epochs: the request, answers whole and cut, and manifests from before they were kept."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest
from tests.support.kafka_backup import a_segment

from tallykeep.errors import IntegrityError, Malformed
from tallykeep.storage.digest import digest
from tallykeep.systems.kafka.held import Held, Tail
from tallykeep.systems.kafka.manifest import Record, SegmentEntry, segment_entry
from tallykeep.systems.kafka.wire.leader_epochs import (
    EpochEnd,
    answers_epochs,
    epoch_ends_request,
    epoch_ends_response,
)

ANSWER = (
    struct.pack(">iii", 0, 2, 0)[:8]
    + b"\x00\x01a" + struct.pack(">i", 2) + struct.pack(">hiiq", 0, 3, 7, 100) + struct.pack(">hiiq", 6, 4, -1, -1)
    + b"\x00\x01b" + struct.pack(">i", 1) + struct.pack(">hiiq", 0, 0, 1, 5)
)  # fmt: skip


def test_a_request() -> None:
    """A consumer's question (replica -1), without a current epoch, laid out as version 3 has it."""
    wanted = struct.pack(">ii", -1, 1) + b"\x00\x01a" + struct.pack(">i", 1) + struct.pack(">iii", 3, -1, 7)
    assert epoch_ends_request({"a": [(3, 7)]}) == wanted


def test_an_answer() -> None:
    """Each partition's epoch and end, or error."""
    assert epoch_ends_response(memoryview(ANSWER)) == [
        EpochEnd("a", 3, 0, 7, 100), EpochEnd("a", 4, 6, -1, -1), EpochEnd("b", 0, 0, 1, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("size", range(len(ANSWER)))
def test_an_answer_that_is_cut(size: int) -> None:
    """Malformed at every byte."""
    with pytest.raises(Malformed):
        epoch_ends_response(memoryview(ANSWER)[:size])


@pytest.mark.parametrize(("low", "high", "taken"), [(0, 4, True), (3, 3, True), (0, 2, False), (4, 5, False)])
def test_what_a_broker_takes(low: int, high: int, taken: bool) -> None:
    """Asked only of brokers that name version 3; those that do not know the request at all are not asked."""
    versions = struct.pack(">hi", 0, 2) + struct.pack(">hhh", 0, 0, 8) + struct.pack(">hhh", 23, low, high)
    assert answers_epochs(memoryview(versions)) is taken
    assert not answers_epochs(memoryview(struct.pack(">hihhh", 0, 1, 0, 0, 8)))
    with pytest.raises(Malformed):
        answers_epochs(memoryview(versions)[:-1])


def test_a_tail() -> None:
    """The last batch decides, also where a segment without batches follows; unknown epochs are not asked for."""
    known, void = a_segment(0), a_segment(9, batches=0)
    entry = segment_entry(known)
    assert (entry.last_end, entry.last_epoch) == (9, -1)
    with_epoch = replace(entry, last_epoch=4)
    assert Held(0, 9, [with_epoch, segment_entry(void)]).tail == Tail(4, 9)
    assert Held(0, 9, [with_epoch, entry]).tail is None
    assert Held(0, 0).tail is None


def test_a_manifest_from_before() -> None:
    """A record without these fields is read, keeps its hash, and is written again byte for byte."""
    before = _plain(segment_entry(a_segment(0)))
    del before["last_end"], before["last_epoch"]
    body = {
        "format": "KRB1", "sequence": 1, "epoch": 1, "writer": "w", "previous": "", "time": 1.0, "fence": False,
        "entries": [{"kind": "segment", **before}],
    }  # fmt: skip
    line = json.dumps(body, separators=(",", ":")).encode()
    data = line + b'\n{"hash":"%s"}\n' % digest(line).encode()
    record = Record.decode(data, "manifest/1")
    assert (record.encode(), record.hash) == (data, digest(line))
    [entry] = record.entries
    assert isinstance(entry, SegmentEntry)
    assert (entry.last_end, entry.last_epoch) == (-1, -1)
    with pytest.raises(IntegrityError):
        Record.decode(data.replace(b'"records":9', b'"records":8'), "manifest/1")


def _plain(entry: SegmentEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in SegmentEntry.__slots__}
