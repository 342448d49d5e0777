"""Every error comes to one published code, and every code to one published exit status."""

from __future__ import annotations

import pytest

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
    TallykeepError,
    Unavailable,
    Unreachable,
)
from tallykeep.systems.kafka import replies
from tallykeep.systems.kafka.chain import Fenced
from tallykeep.systems.kafka.failures import (
    BadTopics,
    BadWindow,
    Missing,
    NoBackup,
    PreflightRefused,
    Unparsable,
    code_of,
    exit_status,
)
from tallykeep.systems.kafka.histories import Diverged
from tallykeep.systems.kafka.selecting import NoSuchTopic

MET = [
    (ConfigError("x"), "CONFIG_INVALID_VALUE", 2),
    (Missing("x"), "CONFIG_MISSING_REQUIRED", 2),
    (Unparsable("x"), "CONFIG_PARSE_ERROR", 2),
    (BadTopics("x"), "CONFIG_INVALID_TOPICS", 2),
    (BadWindow("x"), "VALIDATION_PITR_INVALID", 6),
    (Unreachable("x"), "KAFKA_CONNECTION_FAILED", 3),
    (Malformed("x"), "KAFKA_CONNECTION_FAILED", 3),
    (Refused("h:1: Kafka refused the login: SASL. Check mechanism, user and password."), "KAFKA_AUTH_FAILED", 4),
    (Refused("h:1: no TLS that can be trusted: x. Check the CA file."), "KAFKA_SSL_ERROR", 4),
    (replies.failure(3, "x"), "KAFKA_TOPIC_NOT_FOUND", 1),
    (replies.failure(29, "x"), "KAFKA_UNAUTHORIZED", 4),
    (replies.failure(53, "x"), "KAFKA_UNAUTHORIZED", 4),
    (replies.failure(58, "x"), "KAFKA_AUTH_FAILED", 4),
    (replies.failure(10, "x"), "KAFKA_REQUEST_REFUSED", 1),
    (NoSuchTopic("x"), "KAFKA_TOPIC_NOT_FOUND", 1),
    (Diverged("x"), "KAFKA_LOG_DIVERGED", 1),
    (NotFound("x"), "STORAGE_NOT_FOUND", 5),
    (NoBackup("x"), "VALIDATION_BACKUP_NOT_FOUND", 6),
    (Denied("x"), "STORAGE_ACCESS_DENIED", 5),
    (Denied("x was answered with 403 SignatureDoesNotMatch: y"), "STORAGE_CREDENTIALS_INVALID", 5),
    (Unavailable("x"), "STORAGE_UNAVAILABLE", 5),
    (Unavailable("/b/x: writing it failed: No space left. Make room there."), "STORAGE_QUOTA_EXCEEDED", 5),
    (Conflict("x"), "STORAGE_CONFLICT", 5),
    (Fenced("x"), "STORAGE_CONFLICT", 5),
    (Corrupt("x"), "VALIDATION_SEGMENT_CORRUPT", 6),
    (IntegrityError("/b/manifest/00000000000000000003: its bytes have another hash"), "VALIDATION_MANIFEST_CORRUPT", 6),
    (IntegrityError("/manifest/daily/topics/x: its bytes have another hash"), "VALIDATION_SEGMENT_CORRUPT", 6),
    (RestoreError("x"), "RESTORE_FAILED", 1),
    (PreflightRefused("x"), "RESTORE_REFUSED", 6),
    (TallykeepError("x"), "INTERNAL", 1),
]


@pytest.mark.parametrize(("error", "code", "status"), MET, ids=lambda value: str(value)[:40])
def test_what_an_error_comes_to(error: TallykeepError, code: str, status: int) -> None:
    """The code is the published one, and so is the exit status."""
    assert (code_of(error), exit_status(error)) == (code, status)
