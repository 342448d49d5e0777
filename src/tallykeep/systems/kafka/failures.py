"""Which of the published error codes an error is, and what a Kafka command ends with.

The codes are those that users of kafka-backup know from its documentation: they stand in messages, in `error_type` of
kafka_backup_errors_total and in --json. Exit statuses: 0 done, 1 failed, 2 settings, 3 no connection to Kafka, 4 Kafka
refused the login or the user, 5 storage, 6 the backup is not what it should be.
"""

from __future__ import annotations

from tallykeep.errors import (
    ConfigError,
    Conflict,
    Corrupt,
    Denied,
    IntegrityError,
    Malformed,
    NotFound,
    Refused,
    RestoreError,
    SourceError,
    StoreError,
    TallykeepError,
    Unavailable,
    Unreachable,
)
from tallykeep.systems.kafka import replies

GENERAL, CONFIG, CONNECTION, AUTH, STORAGE, VALIDATION = 1, 2, 3, 4, 5, 6

_STATUS = {
    "CONFIG": CONFIG,
    "KAFKA_CONNECTION_FAILED": CONNECTION,
    "KAFKA_AUTH_FAILED": AUTH,
    "KAFKA_SSL_ERROR": AUTH,
    "KAFKA_UNAUTHORIZED": AUTH,
    "STORAGE": STORAGE,
    "VALIDATION": VALIDATION,
}
_KAFKA = {
    replies.UNKNOWN_TOPIC_OR_PARTITION: "KAFKA_TOPIC_NOT_FOUND",
    replies.UNKNOWN_TOPIC_ID: "KAFKA_TOPIC_NOT_FOUND",
    replies.TOPIC_AUTHORIZATION_FAILED: "KAFKA_UNAUTHORIZED",
    replies.GROUP_AUTHORIZATION_FAILED: "KAFKA_UNAUTHORIZED",
    replies.CLUSTER_AUTHORIZATION_FAILED: "KAFKA_UNAUTHORIZED",
}
_STORE: dict[type[StoreError], str] = {
    Denied: "STORAGE_ACCESS_DENIED",
    NotFound: "STORAGE_NOT_FOUND",
    Unavailable: "STORAGE_UNAVAILABLE",
    Corrupt: "VALIDATION_SEGMENT_CORRUPT",
    Conflict: "STORAGE_CONFLICT",
}


def code_of(error: BaseException) -> str:
    """The published code of an error; one that a layer below has named keeps its name."""
    if named := getattr(error, "published_code", ""):
        return str(named)
    if isinstance(error, ConfigError):
        return "CONFIG_INVALID_VALUE"
    if isinstance(error, SourceError):
        return _of_source(error)
    if isinstance(error, StoreError):
        return next((code for kind, code in _STORE.items() if isinstance(error, kind)), "STORAGE_UNAVAILABLE")
    if isinstance(error, IntegrityError):
        return "VALIDATION_MANIFEST_CORRUPT" if "manifest" in str(error) else "VALIDATION_SEGMENT_CORRUPT"
    if isinstance(error, RestoreError):
        return "RESTORE_REFUSED"
    if isinstance(error, OSError):
        return "IO_WRITE_ERROR"
    return "INTERNAL"


def status_of(code: str) -> int:
    """What a command ends with that gave up over an error of that code."""
    return _STATUS.get(code) or _STATUS.get(code.partition("_")[0], GENERAL)


def exit_status(error: TallykeepError) -> int:
    """What a command ends with that gave up over `error`."""
    return status_of(code_of(error))


def _of_source(error: SourceError) -> str:
    kafka = getattr(error, "kafka_code", None)
    if kafka is not None:
        return _KAFKA.get(kafka, "KAFKA_REQUEST_REFUSED")
    if isinstance(error, Refused):
        text = str(error)
        return "KAFKA_SSL_ERROR" if ("SSL" in text and "SASL" not in text) or "TLS" in text else "KAFKA_AUTH_FAILED"
    return "KAFKA_CONNECTION_FAILED" if isinstance(error, Unreachable | Malformed) else "KAFKA_REQUEST_REFUSED"
