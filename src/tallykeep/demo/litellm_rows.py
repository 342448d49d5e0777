"""Rows of LiteLLM's spend log, as LiteLLM writes them, awkward ones among them.

A request is drawn from the world by a seeded generator and written as one line of COPY, in the columns that the
schema has. Source: litellm, spend_tracking_utils.get_logging_payload (cache_hit is Python's str(), failures have
`error_information` in their metadata, a missing id is '' or NULL, tags may repeat).
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

from tallykeep.demo.litellm_world import MODELS, UNKNOWN_MODEL, Model, Who, World, at

PICO = 10**12  # pico-dollars in a dollar
SUCCESS, FAILURE = "success", "failure"

ERRORS = ("RateLimitError", "Timeout", "AuthenticationError", "ContextWindowExceededError", "InternalServerError")
Tags = tuple[str | None, tuple[str, ...]]
# What the column holds, and the tags that a request counts under.
TAGS: tuple[Tags, ...] = (
    ('["prod"]', ("prod",)),
    ('["prod", "User-Agent: python-httpx"]', ("prod", "User-Agent: python-httpx")),
    ('["dev", "dev", "User-Agent: curl"]', ("dev", "User-Agent: curl")),  # twice in one row
    (json.dumps(['a "quoted" tag', "emoji 🦊", "back\\slash"]), ('a "quoted" tag', "emoji 🦊", "back\\slash")),
    ('["prod", "batch", "jobs"]', ("prod", "batch", "jobs")),
    ('["prod", "batch", "prod", "jobs"]', ("prod", "batch", "jobs")),
    ("[7]", ("7",)),
    ("[]", ()),
    ("[]", ()),
    ("null", ()),
    ('{"not": "an array"}', ()),
    ('"nor this"', ()),
    (None, ()),
)
_SPECIAL_DURATIONS = (0, 100, 250, 1000, 5000, 60_000, 600_000, 900_000)  # bounds of buckets and beyond, milliseconds


class Request(NamedTuple):
    """One request that has ended. Times in milliseconds since 1970, money in pico-dollars."""

    id: str
    who: Who
    model: Model
    start: int
    end: int
    cost: int
    prompt: int
    completion: int
    status: str
    error: str  # class of error; "" where none is told
    cache_hit: str | None  # as the column has it
    tags: Tags
    cache_read: int
    cache_creation: int
    reasoning: int
    status_column: str | None


class Drawer:
    """Draws requests from a world."""

    def __init__(self, world: World, seed: int, name: str) -> None:
        """`name` tells apart drawers of one seed, and stands in the ids of their requests."""
        self._rng = random.Random(f"{name} {seed}")
        self._name = f"{name}-{seed}"
        self._numbers = itertools.count()
        self._world = world
        self._weights = list(itertools.accumulate(1 / (place + 3) for place in range(len(world.who))))
        self._order = self._rng.sample(world.who, len(world.who))

    def draw(self, starts: Sequence[int]) -> list[Request]:
        """A request for each start."""
        rng = self._rng
        people = rng.choices(self._order, cum_weights=self._weights, k=len(starts))
        models = rng.choices(MODELS, k=len(starts))
        tags = rng.choices(TAGS, k=len(starts))
        return [self._one(*drawn) for drawn in zip(starts, people, models, tags, strict=True)]

    def _one(self, start: int, who: Who, model: Model, tags: Tags) -> Request:
        rng = self._rng
        chance = rng.random()
        duration = self._duration()
        id = f"chatcmpl-{self._name}-{next(self._numbers)}"
        told = None if rng.random() < 0.03 else SUCCESS  # rows older than the column hold NULL
        if chance < 0.04:
            return self._failed(id, who, model, start, start + duration, tags)
        prompt, completion = int(rng.expovariate(1 / 900)) + 1, int(rng.expovariate(1 / 250))
        reads = prompt // 3 if model.caches and chance > 0.6 else 0
        creates = prompt // 5 if model.caches and chance > 0.8 else 0
        reasons = completion // 2 if model.reasons else 0
        hit = chance > 0.95
        cost = 0 if hit else prompt * model.prompt + completion * model.completion
        if hit:
            id, duration = f"{id}_cache_hit{start / 1000}", rng.randrange(1, 30)
        cache_hit = "True" if hit else rng.choice(("False", "False", "None", ""))
        return Request(
            id, who, model, start, start + duration, cost, prompt, completion, SUCCESS, "", cache_hit, tags,
            reads, creates, reasons, told,
        )  # fmt: skip

    def _failed(self, id: str, who: Who, model: Model, start: int, end: int, tags: Tags) -> Request:
        rng = self._rng
        found = UNKNOWN_MODEL if rng.random() < 0.1 else model
        error = "" if rng.random() < 0.1 else rng.choice(ERRORS)
        told = None if rng.random() < 0.1 else FAILURE
        return Request(
            id, who, found, start, end, 0, 0, 0, FAILURE, error, rng.choice(("None", "", None)), tags, 0, 0, 0, told
        )

    def _duration(self) -> int:
        rng = self._rng
        if rng.random() < 0.02:
            return rng.choice(_SPECIAL_DURATIONS)
        return int(rng.lognormvariate(0.3, 1.1) * 1000)


COLUMNS = (
    "request_id", "call_type", "api_key", "spend", "total_tokens", "prompt_tokens", "completion_tokens", "startTime",
    "endTime", "completionStartTime", "model", "model_id", "model_group", "custom_llm_provider", "user", "metadata",
    "cache_hit", "cache_key", "request_tags", "team_id", "end_user", "organization_id", "session_id", "status",
    "request_duration_ms", "litellm_call_id",
)  # fmt: skip


def columns(has: Callable[[str], bool]) -> tuple[str, ...]:
    """Those of COLUMNS that a schema has."""
    return tuple(column for column in COLUMNS if has(column))


class Writer:
    """Writes requests as lines of COPY in the columns that are there."""

    def __init__(self, columns: Sequence[str], padding: int = 200) -> None:
        """`padding` bytes stand in each row's metadata for what a real one holds besides (4 kB of model_map)."""
        self._pick = itemgetter(*(COLUMNS.index(column) for column in columns))
        self._padding = f'"model_map_information": {{"filler": "{"m" * padding}"}}'
        self._who: dict[Who, tuple[str, str, str | None, str | None, str | None, str | None]] = {}

    def line(self, request: Request) -> str:
        """One line, with its end."""
        repeated, key, user, team, organization, customer = self._escaped(request.who)
        model, start = request.model, str(at(request.start))
        fields = (
            request.id, "acompletion", key, repr(request.cost / PICO), str(request.prompt + request.completion),
            str(request.prompt), str(request.completion), start, str(at(request.end)), start, model.name, "",
            model.group, model.provider, user, f"{{{repeated}, {self._told(request)}}}", request.cache_hit, "Cache OFF",
            _escape(request.tags[0]), team, customer, organization, f"session-{request.start % 97}",
            request.status_column, str(request.end - request.start), request.id,
        )  # fmt: skip
        return "\t".join(["\\N" if field is None else field for field in self._pick(fields)]) + "\n"

    def _escaped(self, who: Who) -> tuple[str, str, str | None, str | None, str | None, str | None]:
        found = self._who.get(who)
        if found is None:
            metadata = _escape(who.metadata) or ""
            found = (metadata, who.key, _escape(who.user), _escape(who.team), who.organization, _escape(who.customer))
            self._who[who] = found
        return found

    def _told(self, request: Request) -> str:
        """The rest of the metadata. What is told twice there counts once."""
        if request.status == FAILURE:
            if not request.error:
                return '"status": "failure"'
            told = f'"error_code": "500", "error_class": "{request.error}", "llm_provider": "{request.model.provider}"'
            return f'"status": "failure", "error_information": {{{told}}}'
        usage = self._usage(request)
        additional = f'"additional_usage_values": {{{usage}}}, ' if usage and request.model.provider != "openai" else ""
        tokens = f'"prompt_tokens": {request.prompt}, "completion_tokens": {request.completion}'
        whole = f"{tokens}, {usage}" if usage else tokens
        return f'"status": "success", {additional}"usage_object": {{{whole}}}, {self._padding}'

    def _usage(self, request: Request) -> str:
        """Tokens that are told apart, each where its provider puts them."""
        parts = []
        if request.model.provider == "openai" and request.cache_read:
            parts.append(f'"prompt_tokens_details": {{"cached_tokens": {request.cache_read}, "audio_tokens": null}}')
        elif request.cache_read:
            parts.append(f'"cache_read_input_tokens": {request.cache_read}')
        if request.cache_creation:
            parts.append(f'"cache_creation_input_tokens": {request.cache_creation}')
        if request.reasoning:
            parts.append(f'"completion_tokens_details": {{"reasoning_tokens": {request.reasoning}}}')
        return ", ".join(parts)


def _escape(text: str | None) -> str | None:
    """As COPY's text format wants it."""
    if text is None:
        return None
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
