"""What Kafka's error codes mean: for us, and for who reads the message.

Source: Apache Kafka protocol guide, error codes; org.apache.kafka.common.protocol.Errors.
"""

from __future__ import annotations

from typing import ClassVar

from tallykeep.errors import Refused, SourceError, Unreachable

OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
NOT_LEADER = 6
REQUEST_TIMED_OUT = 7
MESSAGE_TOO_LARGE = 10
COORDINATOR_LOADING = 14
RECORD_LIST_TOO_LARGE = 18
UNKNOWN_MEMBER_ID = 25
REBALANCE_IN_PROGRESS = 27
TOPIC_AUTHORIZATION_FAILED = 29
GROUP_AUTHORIZATION_FAILED = 30
CLUSTER_AUTHORIZATION_FAILED = 31
INVALID_TIMESTAMP = 32
UNSUPPORTED_VERSION = 35
TOPIC_ALREADY_EXISTS = 36
OUT_OF_ORDER_SEQUENCE = 45
DUPLICATE_SEQUENCE = 46
INVALID_PRODUCER_EPOCH = 47
CONCURRENT_TRANSACTIONS = 51
UNKNOWN_PRODUCER_ID = 59
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75
INVALID_RECORD = 87
UNKNOWN_TOPIC_ID = 100

COORDINATOR_AWAY = frozenset({14, 15, 16})  # it loads, is not there, or is another broker

_NAMES = {
    -1: "UNKNOWN_SERVER_ERROR", 1: "OFFSET_OUT_OF_RANGE", 2: "CORRUPT_MESSAGE", 3: "UNKNOWN_TOPIC_OR_PARTITION",
    4: "INVALID_FETCH_SIZE", 5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER", 7: "REQUEST_TIMED_OUT",
    8: "BROKER_NOT_AVAILABLE", 9: "REPLICA_NOT_AVAILABLE", 10: "MESSAGE_TOO_LARGE", 11: "STALE_CONTROLLER_EPOCH",
    12: "OFFSET_METADATA_TOO_LARGE", 13: "NETWORK_EXCEPTION",
    14: "COORDINATOR_LOAD_IN_PROGRESS", 15: "COORDINATOR_NOT_AVAILABLE", 16: "NOT_COORDINATOR",
    17: "INVALID_TOPIC_EXCEPTION", 18: "RECORD_LIST_TOO_LARGE", 19: "NOT_ENOUGH_REPLICAS",
    20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND", 21: "INVALID_REQUIRED_ACKS", 22: "ILLEGAL_GENERATION",
    24: "INVALID_GROUP_ID", 25: "UNKNOWN_MEMBER_ID", 27: "REBALANCE_IN_PROGRESS", 28: "INVALID_COMMIT_OFFSET_SIZE",
    29: "TOPIC_AUTHORIZATION_FAILED",
    30: "GROUP_AUTHORIZATION_FAILED", 31: "CLUSTER_AUTHORIZATION_FAILED", 32: "INVALID_TIMESTAMP",
    33: "UNSUPPORTED_SASL_MECHANISM", 34: "ILLEGAL_SASL_STATE", 35: "UNSUPPORTED_VERSION", 36: "TOPIC_ALREADY_EXISTS",
    37: "INVALID_PARTITIONS", 38: "INVALID_REPLICATION_FACTOR", 39: "INVALID_REPLICA_ASSIGNMENT", 40: "INVALID_CONFIG",
    41: "NOT_CONTROLLER", 42: "INVALID_REQUEST", 43: "UNSUPPORTED_FOR_MESSAGE_FORMAT", 44: "POLICY_VIOLATION",
    45: "OUT_OF_ORDER_SEQUENCE_NUMBER", 46: "DUPLICATE_SEQUENCE_NUMBER", 47: "INVALID_PRODUCER_EPOCH",
    51: "CONCURRENT_TRANSACTIONS", 53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", 54: "SECURITY_DISABLED",
    56: "KAFKA_STORAGE_ERROR", 58: "SASL_AUTHENTICATION_FAILED", 59: "UNKNOWN_PRODUCER_ID",
    68: "NON_EMPTY_GROUP", 69: "GROUP_ID_NOT_FOUND", 74: "FENCED_LEADER_EPOCH", 75: "UNKNOWN_LEADER_EPOCH",
    76: "UNSUPPORTED_COMPRESSION_TYPE", 78: "OFFSET_NOT_AVAILABLE", 87: "INVALID_RECORD",
    88: "UNSTABLE_OFFSET_COMMIT",
    89: "THROTTLING_QUOTA_EXCEEDED", 100: "UNKNOWN_TOPIC_ID", 103: "INCONSISTENT_TOPIC_ID",
}  # fmt: skip
_RETRIABLE = {
    2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 27, 41, 51, 56, 74, 75, 78, 88, 89, 100, 103,
}  # fmt: skip
_FORBIDDEN = {29, 30, 31, 53, 54, 58}
_ADVICE = {
    MESSAGE_TOO_LARGE: "Raise max.message.bytes of the topic.",
    RECORD_LIST_TOO_LARGE: "Raise max.message.bytes and segment.bytes of the topic.",
    INVALID_TIMESTAMP: "Raise message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic.",
    UNSUPPORTED_VERSION: "The broker is too old for this.",
    76: "The broker is too old for the compression of these batches.",
    40: "Look into the broker's log for the setting that it does not take.",
    44: "The cluster has a policy against this.",
}


class KafkaRefused(Refused):
    """A broker said no. `kafka_code` is Kafka's own code; `retry` is set where Kafka calls it retriable."""

    def __init__(self, message: str, kafka_code: int, *, retry: float | None = None) -> None:
        super().__init__(message, retry=retry)
        self.kafka_code = kafka_code


class KafkaForbidden(KafkaRefused):
    """A broker said: not you."""

    code: ClassVar[str] = "forbidden"


def code_name(code: int) -> str:
    """Kafka's name of an error code."""
    return _NAMES.get(code, f"ERROR_{code}")


def is_retriable(code: int) -> bool:
    """Whether the same request may succeed later."""
    return code in _RETRIABLE


def failure(code: int, what: str, message: str = "") -> SourceError:
    """The error that Kafka's `code` comes to; `what` was asked or asked of, `message` is what the broker adds."""
    message = message.rstrip(".: ")
    added = f" ({message})" if message else ""
    said = f"{what}: Kafka answered {code_name(code)}{added}."
    if code in _FORBIDDEN:
        return KafkaForbidden(f"{said} Give the user the right to do this, or another user.", code)
    if code == -1:
        return KafkaRefused(f"{said} The broker's log says more.", code, retry=1.0)
    if is_retriable(code):
        return KafkaRefused(f"{said} It may work later.", code, retry=1.0)
    return KafkaRefused(f"{said} {_ADVICE.get(code, '')}".rstrip(), code)


def unanswered(what: str, why: str) -> Unreachable:
    """Nothing came."""
    return Unreachable(f"{what}: Kafka gave no answer: {why}. Check the brokers and the network.")
