"""Which of the published error codes an error is, and what a Kafka command ends with.

The codes are those that users of kafka-backup know from its documentation: they stand in messages, in `error_type` of
kafka_backup_errors_total and in --json. Exit statuses: 0 done, 1 failed, 2 settings, 3 no connection to Kafka, 4 Kafka
refused the login or the user, 5 storage, 6 the backup is not what it should be.
"""

from __future__ import annotations

import re

from tallykeep.errors import (
    ConfigError,
    Conflict,
    Corrupt,
    Denied,
    IntegrityError,
    NotFound,
    Refused,
    RestoreError,
    SourceError,
    StoreError,
    TallykeepError,
    Unavailable,
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
    "RESTORE_REFUSED": VALIDATION,
}
_NAMED = {"topic_not_found": "KAFKA_TOPIC_NOT_FOUND", "diverged": "KAFKA_LOG_DIVERGED"}
_KAFKA = {
    replies.UNKNOWN_TOPIC_OR_PARTITION: "KAFKA_TOPIC_NOT_FOUND",
    replies.UNKNOWN_TOPIC_ID: "KAFKA_TOPIC_NOT_FOUND",
    58: "KAFKA_AUTH_FAILED",  # SASL_AUTHENTICATION_FAILED
}
_STORE: dict[type[StoreError], str] = {
    Denied: "STORAGE_ACCESS_DENIED",
    NotFound: "STORAGE_NOT_FOUND",
    Unavailable: "STORAGE_UNAVAILABLE",
    Corrupt: "VALIDATION_SEGMENT_CORRUPT",
    Conflict: "STORAGE_CONFLICT",
}
_CREDENTIALS = re.compile(
    r"\b(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|AuthenticationFailed)\b"
)
_MANIFEST = re.compile(r"manifest/\d{20}|of the manifest,|this manifest|bring the manifest back")
_TLS = re.compile(r"\bTLS\b|\bSSL\b|certificate", re.IGNORECASE)


class Missing(ConfigError):
    """Something that has to be said was not."""

    published_code = "CONFIG_MISSING_REQUIRED"


class Unparsable(ConfigError):
    """A settings file that cannot be read, or is not YAML."""

    published_code = "CONFIG_PARSE_ERROR"


class BadTopics(ConfigError):
    """Patterns of topics that are none."""

    published_code = "CONFIG_INVALID_TOPICS"


class BadWindow(ConfigError):
    """A point in time that there cannot be."""

    published_code = "VALIDATION_PITR_INVALID"


class NoBackup(NotFound):
    """There is no backup of that name."""

    published_code = "VALIDATION_BACKUP_NOT_FOUND"


class PreflightRefused(RestoreError):
    """A restore that would fail, or mix its records with others."""

    published_code = "RESTORE_REFUSED"


def code_of(error: BaseException) -> str:
    """The published code of an error; one that a layer below has named keeps its name."""
    if named := getattr(error, "published_code", "") or _NAMED.get(getattr(error, "code", ""), ""):
        return str(named)
    if isinstance(error, ConfigError):
        return "CONFIG_INVALID_VALUE"
    if isinstance(error, SourceError):
        return _of_source(error)
    if isinstance(error, StoreError):
        return _of_store(error)
    if isinstance(error, IntegrityError):
        return "VALIDATION_MANIFEST_CORRUPT" if _MANIFEST.search(str(error)) else "VALIDATION_SEGMENT_CORRUPT"
    if isinstance(error, RestoreError):
        return "RESTORE_FAILED"
    return "INTERNAL"


def status_of(code: str) -> int:
    """What a command ends with that gave up over an error of that code."""
    return _STATUS.get(code) or _STATUS.get(code.partition("_")[0], GENERAL)


def exit_status(error: TallykeepError) -> int:
    """What a command ends with that gave up over `error`."""
    return status_of(code_of(error))


def _of_source(error: SourceError) -> str:
    if isinstance(error, replies.KafkaRefused):
        named = _KAFKA.get(error.kafka_code)
        return named or ("KAFKA_UNAUTHORIZED" if isinstance(error, replies.KafkaForbidden) else "KAFKA_REQUEST_REFUSED")
    if isinstance(error, Refused):
        text = str(error)
        return "KAFKA_SSL_ERROR" if _TLS.search(text) and "SASL" not in text else "KAFKA_AUTH_FAILED"
    return "KAFKA_CONNECTION_FAILED"


def _of_store(error: StoreError) -> str:
    if isinstance(error, Denied) and _CREDENTIALS.search(str(error)):
        return "STORAGE_CREDENTIALS_INVALID"
    if isinstance(error, Unavailable) and str(error).endswith("Make room there."):
        return "STORAGE_QUOTA_EXCEEDED"
    return next((code for kind, code in _STORE.items() if isinstance(error, kind)), "STORAGE_UNAVAILABLE")
