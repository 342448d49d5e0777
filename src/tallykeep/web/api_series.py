"""GET /api/v1/series: the history of any kept family, in steps, by labels, as JSON or CSV.

A counter shows what it rose by in each step, a gauge its last value; where nothing was recorded there is null, never
a zero.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tallykeep.errors import StoreError
from tallykeep.exposition.json import Json, number_as_json
from tallykeep.history.series import Chart
from tallykeep.history.series import Query as Asked
from tallykeep.runtime.threads import in_thread
from tallykeep.units import parse_duration, parse_timestamp
from tallykeep.web.negotiate import prefers_csv

_DAY = 86400.0
_POINTS = 200  # in a chart that no step was asked for
_LATEST = 253_402_300_799.0  # the end of the year 9999: beyond it there are no dates
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Readable(Protocol):
    """A history."""

    @property
    def zone(self) -> ZoneInfo:
        """Of its days, and of the timestamps in answers."""
        ...

    async def series(self, query: Asked) -> Chart:
        """The chart. Raises: ValueError for a query that makes no sense; StoreError."""
        ...


def series_router(histories: Sequence[Readable]) -> APIRouter:
    """The route. The first history that has something under a name answers."""
    routes = APIRouter(tags=["history"])

    @routes.get("/api/v1/series", summary="History in steps", responses=_RESPONSES, response_class=Response)
    async def series(
        request: Request,
        name: Annotated[str, Query(description="A tracked figure (cost), or the name of samples on a scraped page.")],
        by: Annotated[str, Query(description="Labels that tell lines apart, with commas: model,team.")] = "",
        start: Annotated[str, Query(alias="from", description="RFC 3339, Unix seconds, or a time ago: 24h.")] = "24h",
        stop: Annotated[str, Query(alias="to", description="The same; now where it is not given.")] = "",
        step: Annotated[str, Query(description="Such as 15m, 1h, 1d. At most 200 steps where it is not given.")] = "",
        format: Annotated[str, Query(description="json or csv; else by the Accept header.")] = "",
    ) -> Response:
        try:
            asked = _asked(name, by, start, stop, step)
            if format not in ("", "json", "csv"):
                raise ValueError(f"format is {format!r}; json and csv are there")
            chart, zone = await _first(histories, asked)
        except ValueError as error:
            return _json({"error": str(error)}, 422)
        except StoreError as error:
            return _json({"error": str(error)}, 503)
        as_csv = format == "csv" or (not format and prefers_csv(request.headers.get("accept", "")))
        return await in_thread(_csv if as_csv else _told, chart, zone)

    return routes


def _asked(name: str, by: str, start: str, stop: str, step: str) -> Asked:
    now = time.time()
    end = _moment("to", stop, now) if stop.strip() else now
    begin = _moment("from", start, now)
    if not begin < end:
        raise ValueError("from is to be before to")
    labels = tuple(dict.fromkeys(part.strip() for part in by.split(",") if part.strip()))
    return Asked(name, begin, end, _step(step, end - begin), labels)


def _moment(key: str, text: str, now: float) -> float:
    text = text.strip()
    try:
        moment = now - parse_duration(text) if text[-1:] in ("s", "m", "h", "d", "w") else _instant(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{key} is {text!r}: give RFC 3339, Unix seconds, or a time ago such as 24h") from None
    if not 0 <= moment <= _LATEST:
        raise ValueError(f"{key} is {text!r}, which is out of range")
    return moment


def _instant(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_timestamp(text.replace(" ", "+"))  # a plus sign that was not escaped in the URL


def _step(text: str, span: float) -> float:
    if not text.strip():
        least = span / _POINTS
        return next((step for step in (60.0, 300.0, 900.0, 3600.0, 6 * 3600.0, _DAY) if step >= least), _days(least))
    try:
        step = parse_duration(text)
    except (ValueError, OverflowError):
        raise ValueError(f"step is {text!r}: give a duration such as 15m, 1h, 1d") from None
    if not 1 <= step <= 1000 * 366 * _DAY:
        raise ValueError(f"step is {text!r}: give one of a second or more")
    return step


def _days(least: float) -> float:
    return (least // _DAY + 1) * _DAY


async def _first(histories: Sequence[Readable], asked: Asked) -> tuple[Chart, ZoneInfo]:
    found = Chart(asked.name, int(asked.step), [], []), ZoneInfo("UTC")
    for history in histories:
        chart = await history.series(asked)
        found = chart, history.zone
        if chart.lines:
            break
    return found


def _told(chart: Chart, zone: ZoneInfo) -> Response:
    lines: list[Json] = [
        {"labels": dict(line.labels), "values": [None if v is None else number_as_json(v) for v in line.values]}
        for line in chart.lines
    ]
    times: list[Json] = [_iso(moment, zone) for moment in chart.times]
    return _json({"name": chart.name, "step_seconds": chart.step, "times": times, "series": lines})


def _csv(chart: Chart, zone: ZoneInfo) -> Response:
    labels = list(dict.fromkeys(label for line in chart.lines for label in line.labels))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", *labels, "value"])
    for line in chart.lines:
        named = [_harmless(line.labels.get(label, "")) for label in labels]
        for moment, value in zip(chart.times, line.values, strict=True):
            if value is not None:
                writer.writerow([_iso(moment, zone), *named, number_as_json(value)])
    return Response(text.getvalue().encode("utf-8", "replace"), media_type="text/csv; charset=utf-8")


def _harmless(text: str) -> str:
    """A label as spreadsheets show it: they would reckon with what begins like a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _iso(moment: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(moment, zone).isoformat(timespec="seconds")


def _json(told: Mapping[str, Json], status: int = 200) -> Response:
    body = json.dumps(told, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Response(body.encode("utf-8", "replace"), status, media_type="application/json")


_ERROR: dict[str, Any] = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
        }
    }
}
_CHART: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "step_seconds": {"type": "integer"},
        "times": {"type": "array", "items": {"type": "string", "format": "date-time"}},
        "series": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "values": {"type": "array", "items": {"type": ["number", "null"]}},
                },
                "required": ["labels", "values"],
            },
        },
    },
    "required": ["name", "step_seconds", "times", "series"],
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Steps with a line for each combination of the labels asked for.",
        "content": {"application/json": {"schema": _CHART}, "text/csv": {"schema": {"type": "string"}}},
    },
    422: {"description": "A query that makes no sense.", **_ERROR},
    503: {"description": "The history cannot be read now.", **_ERROR},
}
