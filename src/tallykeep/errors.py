"""The one tree of errors.

    TallykeepError
    ├── ConfigError            settings that cannot be used; ends a start with status 2
    ├── SourceError            something that is watched did not answer as it should
    │   ├── Unreachable        nothing answered, or not in time
    │   ├── Refused            it answered: not you, or not this
    │   └── Malformed          it answered with something that does not parse
    ├── StoreError             an object store or folder
    │   ├── NotFound           no such object, folder or bucket
    │   ├── Denied             the credentials may not do this
    │   ├── Unavailable        no answer, a time-out, an overload: may work later
    │   ├── Corrupt            what came back is not what was asked for
    │   └── Conflict           a create-only put found the object there
    ├── IntegrityError         bytes that contradict their own checksums or one another
    └── RestoreError           data that cannot be brought back as asked

A message says what happened, to what, and what to do next. `code` is a stable word (metric label, anchor in
the docs); `retry` is seconds to wait before a retry makes sense, or None where none does. Only the supervisor
and the retry wrapper read it. An error is logged once, where it is handled.
"""

from __future__ import annotations

from typing import ClassVar


class TallykeepError(Exception):
    """Root of the tree. Raise a leaf."""

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[int] = 1
    retry: float | None = None

    def __init__(self, message: str, *, retry: float | None = None) -> None:
        super().__init__(message)
        if retry is not None:
            self.retry = retry


class ConfigError(TallykeepError):
    """Settings that cannot be used. `problems` holds one line for each, found all at once."""

    code = "config"
    exit_status = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SourceError(TallykeepError):
    """A watched source did not answer as it should."""

    code = "source"
    exit_status = 3


class Unreachable(SourceError):
    code = "unreachable"
    retry = 1.0


class Refused(SourceError):
    code = "refused"


class Malformed(SourceError):
    code = "malformed"


class StoreError(TallykeepError):
    """An object store or folder failed."""

    code = "store"
    exit_status = 3


class NotFound(StoreError):
    code = "not_found"


class Denied(StoreError):
    code = "denied"


class Unavailable(StoreError):
    code = "unavailable"
    retry: float | None = 1.0


class Corrupt(StoreError):
    code = "corrupt"
    exit_status = 1


class Conflict(StoreError):
    code = "conflict"
    exit_status = 1


class IntegrityError(TallykeepError):
    """Bytes that contradict their own checksums or one another."""

    code = "integrity"


class RestoreError(TallykeepError):
    """Data that cannot be brought back as asked."""

    code = "restore"
