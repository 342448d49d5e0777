"""Produce and InitProducerId byte by byte, and what Kafka's error codes come to."""

from __future__ import annotations

import struct

import pytest

from tallykeep.errors import Malformed
from tallykeep.systems.kafka import replies
from tallykeep.systems.kafka.replies import KafkaForbidden, KafkaRefused, code_name, failure, is_retriable
from tallykeep.systems.kafka.wire.produce import Produced, produce_request, produce_response
from tallykeep.systems.kafka.wire.producer_id import ProducerId, producer_id_request, producer_id_response


def test_a_request_is_handed_on_in_pieces() -> None:
    """Its bytes are those of the protocol guide, and the batches in it are the very objects that were given."""
    payload = memoryview(b"payload")
    pieces = produce_request({"to": [(0, [b"head", payload]), (3, [b"x"])], "ab": []}, timeout_ms=500)
    assert b"".join(pieces) == (
        struct.pack(">hhii", -1, -1, 500, 2)
        + b"\0\2to" + struct.pack(">i", 2)
        + struct.pack(">ii", 0, 11) + b"headpayload"
        + struct.pack(">ii", 3, 1) + b"x"
        + b"\0\2ab" + struct.pack(">i", 0)
    )  # fmt: skip
    assert any(piece is payload for piece in pieces)


def answer(*, errors: bytes = struct.pack(">i", 0), message: bytes = b"\xff\xff") -> bytes:
    """A response for one partition."""
    one = struct.pack(">ihqqq", 3, 87, -1, -1, 5) + errors + message
    return struct.pack(">i", 1) + b"\0\2to" + struct.pack(">i", 1) + one + struct.pack(">i", 0)


def test_an_answer_is_read_with_what_the_broker_says() -> None:
    """Each partition with its error; the broker's message and those about single records are put together."""
    assert produce_response(memoryview(answer())) == [Produced("to", 3, 87, -1, -1, 5, "")]
    errors = struct.pack(">i", 2) + struct.pack(">i", 4) + b"\0\3bad" + struct.pack(">i", 5) + b"\xff\xff"
    [found] = produce_response(memoryview(answer(errors=errors, message=b"\0\4all!")))
    assert found.message == "all!; record 4 of the batch: bad"


def test_an_answer_cut_anywhere_is_malformed() -> None:
    """Never a wrong answer, and no other error."""
    whole = answer(message=b"\0\4all!")
    for end in range(len(whole) - 4):  # the throttle time behind it is not read
        with pytest.raises(Malformed):
            produce_response(memoryview(whole)[:end])


@pytest.mark.parametrize("count", [1 << 30, 100])
def test_counts_are_not_believed(count: int) -> None:
    """A count of more than there are bytes ends at once."""
    with pytest.raises(Malformed):
        produce_response(memoryview(struct.pack(">i", count)))


def test_a_producer_id() -> None:
    """Asked for without a transactional id; error, id and epoch come back; a cut answer is malformed."""
    assert producer_id_request() == b"\0" + b"\0" + struct.pack(">iqh", 60_000, -1, -1) + b"\0"
    said = b"\0" + struct.pack(">ihqh", 0, 14, -1, -1)
    assert producer_id_response(memoryview(said)) == ProducerId(14, -1, -1)
    with pytest.raises(Malformed):
        producer_id_response(memoryview(said)[:-1])


def test_every_code_has_its_name() -> None:
    """The constants carry Kafka's codes; an unknown one is shown by its number."""
    for name in ("OFFSET_OUT_OF_RANGE", "MESSAGE_TOO_LARGE", "TOPIC_ALREADY_EXISTS", "UNKNOWN_TOPIC_ID"):
        assert code_name(getattr(replies, name)) == name
    assert code_name(999) == "ERROR_999"


@pytest.mark.parametrize(
    ("code", "kind", "retry"), [(6, KafkaRefused, True), (29, KafkaForbidden, False), (10, KafkaRefused, False)]
)
def test_what_a_code_comes_to(code: int, kind: type[KafkaRefused], retry: bool) -> None:
    """Retriable where Kafka says so, forbidden where a right is missing; the broker's words are in the message."""
    error = failure(code, "Produce to t-0", "its own words.")
    assert type(error) is kind
    assert isinstance(error, KafkaRefused)
    assert (error.kafka_code, error.retry is not None, is_retriable(code)) == (code, retry, retry)
    assert str(error).startswith(f"Produce to t-0: Kafka answered {code_name(code)} (its own words). ")
