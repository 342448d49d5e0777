"""Bytes, durations and timestamps: how they are written, read and announced.

Durations are read in Go's notation ("1h30m", "500ms"), with days and weeks besides ("30d", "2w"), or as plain
seconds. Sources: Go, time.ParseDuration; RFC 3339; OpenTelemetry, UCUM units.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit as each surface writes it."""

    suffix: str  # what a well-named Prometheus family ends with
    ucum: str  # the OTLP unit; "{...}" only annotates and adds no suffix in translation
    grafana: str


BYTES = Unit("_bytes", "By", "bytes")
SECONDS = Unit("_seconds", "s", "s")
TIMESTAMP = Unit("_timestamp_seconds", "s", "dateTimeFromNow")
DOLLARS = Unit("_dollars", "{dollar}", "currencyUSD")
PERCENT = Unit("_percent", "%", "percent")
RATIO = Unit("_ratio", "1", "percentunit")
COUNT = Unit("", "{item}", "short")
FLAG = Unit("", "", "bool_yes_no")
STATE = Unit("", "", "short")

_STEPS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3,
    "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w)")


def parse_duration(text: str) -> float:
    """Seconds in a duration such as "90", "1.5", "30s", "1h30m" or "7d".

    Raises: ValueError naming the text.
    """
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    position, seconds = 0, 0.0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            break
        seconds += float(part[1]) * _STEPS[part[2]]
        position = part.end()
    if not text or position < len(text):
        raise ValueError(f"{text!r} is not a duration (such as 30s, 5m, 1h30m, 7d)")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration for people: "350 ms", "12.3 s", "4 min 5 s", "3 h 20 min", "2 d 4 h"."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, rest, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            more = whole % size // rest
            return f"{whole // size} {name}" + (f" {more} {lower}" if more else "")
    raise AssertionError(seconds)


_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZES |= {f"{name}i": 1 << 10 * power for power, name in enumerate("KMGT", 1)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes in a size such as "1048576", "64MiB" or "1.5 GB".

    Raises: ValueError naming the text.
    """
    part = _SIZE.fullmatch(text.strip())
    if part is None:
        raise ValueError(f"{text!r} is not a size (such as 1048576, 64MiB, 1.5GB)")
    name = (part[2] or "").upper().replace("I", "i")
    return round(float(part[1]) * _SIZES[name])


def format_bytes(count: float) -> str:
    """A size for people, in binary units: "179 B", "4.1 KiB", "52.7 MiB"."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    power = min((int(abs(count)).bit_length() - 1) // 10, 4)
    return f"{count / (1 << 10 * power):.1f} {' KMGT'[power]}iB"


def parse_timestamp(text: str) -> float:
    """Unix seconds of an RFC 3339 timestamp; without an offset it is UTC.

    Raises: ValueError naming the text.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a timestamp (such as 2026-01-31T15:04:05Z)") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def format_timestamp(unix: float) -> str:
    """RFC 3339 in UTC to the millisecond: "2026-01-31T15:04:05.000Z"."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
