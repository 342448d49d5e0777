"""What a cloud's refusals mean: obstore's errors as StoreErrors.

obstore keeps the HTTP status, the server's XML and the cause of a failed connection only in the text of its
errors, among pages of internals. Of that text the status, <Code>, <Message> and the innermost cause are kept;
nothing else may reach a message, as the rest can hold what was signed.
Source: obstore.exceptions; Amazon S3, Error responses; object_store, client::retry.
"""

from __future__ import annotations

import re
from html import unescape
from typing import NamedTuple

from obstore import exceptions

from tallykeep.errors import Conflict, Corrupt, Denied, NotFound, StoreError, Unavailable

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_CAUSE = re.compile(r'(?:message|error): "([^"\n]{1,200})"')
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)|(InvalidMessage)\b")
_KIND = re.compile(r"^\s*kind: (Timeout|Connect|Interrupted|Request|Decode),", re.MULTILINE)

_OVERLOAD = {408, 425, 429}


class Untrusted(Unavailable):
    """No connection that could be trusted: a certificate does not mend itself while somebody waits."""

    retry = None


class Place(NamedTuple):
    """What was asked of whom, for messages."""

    doing: str  # "reading", "listing", ...
    name: str  # "s3://bucket/prefix"
    key: str
    server: str  # the endpoint, or "AWS"
    timeout: float

    @property
    def what(self) -> str:
        return f"{self.name}/{self.key}" if self.key else self.name


def translated(error: Exception, place: Place) -> StoreError:
    """The StoreError that `error` of obstore comes to."""
    text = str(error)
    code, status = _first(_CODE, text), int(_first(_STATUS, text) or 0)
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError) or status in (409, 412):
        return Conflict(f"{place.what} is there already; read it to see whose it is.")
    if code in ("NoSuchBucket", "ContainerNotFound") or (status == 404 and place.doing == "listing"):
        return NotFound(
            f"{place.name}: {place.server} knows no such bucket; check its name, and the endpoint and region."
        )
    if isinstance(error, FileNotFoundError) or status == 404:
        return NotFound(f"{place.what} is not there.")
    if isinstance(error, exceptions.InvalidPathError):
        return Corrupt(
            f"{place.what}: {place.doing} it met a key with control characters; rename or remove the object."
        )
    if "BareRedirect" in text:
        return Denied(f"{place.what}: {place.server} sends to another region; check the region and the endpoint.")
    if status:
        return _refused(status, code, unescape(_first(_MESSAGE, text)), place)
    return _unanswered(text, place)


def timed_out(place: Place) -> Unavailable:
    """Nothing came in time."""
    return Unavailable(
        f"{place.what}: {place.doing} it, {place.server} gave no answer within {place.timeout:g} s; "
        "check whether it is up, or allow more time."
    )


def _refused(status: int, code: str, message: str, place: Place) -> StoreError:
    said = " ".join(part for part in (str(status), code) if part) + (f": {message}" if message else "")
    what = f"{place.what}: {place.doing} it was answered with {said.rstrip('.')}."
    if status >= 500 or status in _OVERLOAD:
        return Unavailable(f"{what} The server failed or is overloaded; it may work later.")
    if 300 <= status < 400 or code in (
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "IllegalLocationConstraint",
    ):
        return Denied(f"{what} Check the region and the endpoint.")
    return Denied(f"{what} Check the access key, its secret, and what it may do in this bucket.")


def _unanswered(text: str, place: Place) -> StoreError:
    kinds = set(_KIND.findall(text))
    if "Timeout" in kinds or "TimedOut" in text:
        return timed_out(place)
    if flaw := _first(_CERTIFICATE, text):
        return Untrusted(
            f"{place.what}: {place.server} has no TLS that can be trusted ({flaw}); "
            "name its CA in a file, or correct http to https or back."
        )
    causes = _CAUSE.findall(text)
    why = causes[-1] if causes else "the connection was lost" if "Connect" not in kinds else "no connection"
    return Unavailable(
        f"{place.what}: {place.doing} it failed at {place.server}: {why}. Check the endpoint and the network."
    )


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found else ""
