"""The published endpoints of pulse, as FastAPI routes over a Desk.

Answers are made by the desk and encoded here; their schemas stand beside the routes, so that the OpenAPI page tells
every field and every status. Large ones are encoded off the event loop.
Source: contract/http.tsv.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from tallykeep.exposition.json import Json
from tallykeep.history.periods import Period
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.pulse.desk import MOST_SNAPSHOTS, Desk
from tallykeep.systems.pulse.tracked import COUNTERS, DEPLOYMENTS, NAMES

_DEFAULT_LIMIT = 168
_MANY = 500  # snapshots worth a thread

_NUMBER: dict[str, Any] = {"type": "number"}
_MOMENT: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_WINDOWED = [f"{name}_{period.value}" for name in (*NAMES, "input_cached_pct") for period in Period]


def router(desk: Desk) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["pulse"])

    @routes.get("/", summary="The summary; a browser gets a page", **_answers(_SUMMARY))
    @routes.get("/api/v1/metrics", summary="Every figure: now, today, this week, this month", **_answers(_SUMMARY))
    async def metrics() -> Response:
        return _reply(desk.summary())

    @routes.get("/api/v1/metrics/{name:path}", summary="One figure", **_answers(_METRIC, {404: _UNKNOWN}))
    async def metric(name: str) -> Response:
        told = desk.metric(name)
        if told is None:
            return _reply({"error": f"Unknown metric: {name}", "available": list(desk.available)}, 404)
        return _reply(told)

    @routes.get("/api/v1/history", summary="The newest scrapes, newest last", **_answers(_HISTORY))
    async def history(
        limit: Annotated[
            int, Query(ge=0, description=f"How many; at most {MOST_SNAPSHOTS} are given.")
        ] = _DEFAULT_LIMIT,
    ) -> Response:
        told = await desk.snapshots(limit)
        return await in_thread(_reply, told) if limit > _MANY else _reply(told)

    @routes.get("/api/v1/models", summary="Figures by model", **_answers(_MODELS))
    async def models() -> Response:
        return _reply(await desk.models())

    @routes.get("/raw", summary="Every family of the last scrape, summed over labels", **_answers(_RAW))
    async def raw() -> Response:
        return _reply(desk.raw())

    @routes.get("/health", summary="Has a scrape succeeded since the start?", **_answers(_HEALTH, {503: _HEALTH}))
    async def health() -> Response:
        return _reply({"status": "ok"}) if desk.started else _reply({"status": "starting"}, 503)

    return routes


def _reply(told: Mapping[str, Json], status: int = 200) -> Response:
    body = json.dumps(told, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Response(body.encode("utf-8", "replace"), status, media_type="application/json")


# --- what the OpenAPI page says of the answers


def _answers(schema: Mapping[str, Any], others: Mapping[int, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    described = {200: schema, **(others or {})}
    responses = {
        status: {"description": what["description"], "content": {"application/json": {"schema": what}}}
        for status, what in described.items()
    }
    return {"responses": responses, "response_class": Response}


def _object(description: str, required: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": {**required, **(further or {})},
        "required": list(required),
    }


_SUMMARY = _object(
    "The summary: `<name>` as it stands on the page, summed over series and targets; `_daily`, `_weekly`, `_monthly` "
    "what it rose by since the period began; `_lifetime` since the first scrape, never falling.",
    {
        **dict.fromkeys((*NAMES, "input_cached_pct", *_WINDOWED), _NUMBER),
        **{f"{name}_lifetime": _NUMBER for name in COUNTERS},
        "last_scrape": _MOMENT,
        "source": {"type": "string"},
    },
    {"error": {"type": "string", "description": "Only after a failed scrape or a failed write."}},
)
_METRIC = _object("The figure.", {"name": {"type": "string"}, "value": _NUMBER, "last_scrape": _MOMENT})
_UNKNOWN = _object(
    "No figure of that name.",
    {"error": {"type": "string"}},
    {"available": {"type": "array", "items": {"type": "string"}, "description": "The published names."}},
)
_HISTORY = _object(
    "One snapshot a scrape, newest last.",
    {
        "snapshots": {
            "type": "array",
            "items": _object(
                "A scrape.",
                {
                    "timestamp": {"type": "string", "format": "date-time"},
                    "is_reset": {"type": "boolean"},
                    **{key: _NUMBER for name in NAMES for key in (name, f"{name}_delta")},
                },
            ),
        },
        "count": {"type": "integer"},
        "source": {"type": "string", "enum": ["sqlite", "memory", "disabled"]},
    },
)
_MODELS = _object(
    "A row a model. Requests name the alias that clients use; it is followed to the model where the page tells it.",
    {
        "models": {
            "type": "array",
            "items": _object(
                "A model.",
                {
                    "model": {"type": "string"},
                    "requested_models": {"type": "array", "items": {"type": "string"}},
                    **{
                        f"{name}{end}": _NUMBER
                        for name in (*COUNTERS, *DEPLOYMENTS, "input_cached_pct")
                        for end in ("", *(f"_{period.value}" for period in Period))
                    },
                },
            ),
        },
        "last_scrape": _MOMENT,
    },
)
_RAW = {
    "description": "Sample names with sums. What JSON cannot spell is a string: NaN, +Inf, -Inf.",
    "type": "object",
    "additionalProperties": {"type": ["number", "string"]},
}
_HEALTH = _object("ok or starting.", {"status": {"type": "string", "enum": ["ok", "starting"]}})
