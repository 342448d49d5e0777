"""Which topics are meant by patterns."""

from __future__ import annotations

import pytest

from tallykeep.errors import ConfigError
from tallykeep.systems.kafka.selecting import NoSuchTopic, Selection, is_pattern

TOPICS = [
    ("orders", False),
    ("orders-eu", False),
    ("orders.dlq", False),
    ("users", False),
    ("__consumer_offsets", True),
]


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), ["orders", "orders-eu", "orders.dlq", "users"]),
        (Selection(["orders"]), ["orders"]),
        (Selection(["orders*"]), ["orders", "orders-eu", "orders.dlq"]),
        (Selection(["order?", "user[rs]"]), ["orders", "users"]),
        (Selection(["~^orders"]), ["orders", "orders-eu", "orders.dlq"]),
        (Selection(["~s$"]), ["orders", "users"]),
        (Selection(["~r"], ["~dlq$", "orders-*"]), ["orders", "users"]),
        (Selection(exclude=["orders*"]), ["users"]),
        (Selection(["orders.dlq"]), ["orders.dlq"]),
        (Selection(["*"], internal=True), ["__consumer_offsets", "orders", "orders-eu", "orders.dlq", "users"]),
        (Selection(["*"], ["orders*"], internal=True, internal_topics=["__transaction*"]), ["users"]),
    ],
)
def test_what_is_taken(selection: Selection, wanted: list[str]) -> None:
    """Globs mean whole names, expressions are found in them, exclusion wins, Kafka's own topics are asked for."""
    assert selection.of(TOPICS) == wanted


def test_what_is_not_there() -> None:
    """A name without a topic is an error, a pattern without one is not; nothing at all is one."""
    with pytest.raises(NoSuchTopic, match="'payments'"):
        Selection(["orders", "payments"]).of(TOPICS)
    assert Selection(["orders", "payments*"]).of(TOPICS) == ["orders"]
    with pytest.raises(NoSuchTopic, match="none is left"):
        Selection(["payments*"]).of(TOPICS)
    with pytest.raises(NoSuchTopic, match="none is left"):
        Selection(["__consumer_offsets"]).of(TOPICS)


def test_patterns_that_are_none() -> None:
    """All of them are told at once."""
    with pytest.raises(ConfigError) as caught:
        Selection(["~("], ["~"], internal_topics=["~["]).of(TOPICS)
    assert len(caught.value.problems) == 3


def test_names_and_patterns() -> None:
    """A dot or a dash makes no pattern."""
    assert [is_pattern(text) for text in ("a.b-c_d", "a*", "a?", "[ab]", "~a")] == [False, True, True, True, True]
