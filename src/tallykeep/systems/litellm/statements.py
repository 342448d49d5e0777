"""The statements that read the spend logs, built from what the schema has.

Each is a range scan over "startTime", which every schema indexes, and groups the rows of each minute, hour or
day. `metadata` (kilobytes a row, stored out of line) is touched only where nothing else will do: for the class
of an error in failed rows, and for the status where there is no column or it is NULL.

Sessions are pinned to UTC, and so are the columns: LiteLLM stores UTC in timestamps without a zone.
"""

from __future__ import annotations

from tallykeep.systems.litellm.schema import SPEND_LOGS, Schema

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)  # seconds, upper bounds
_STEPS = {60: "minute", 3600: "hour", 86400: "day"}
_RANGE = 'l."startTime" >= %(start)s AND (%(stop)s::timestamp IS NULL OR l."startTime" < %(stop)s)'


def _bucket(step: int) -> str:
    return f"extract(epoch FROM date_trunc('{_STEPS[step]}', l.\"startTime\"))::bigint"


def status(schema: Schema) -> str:
    """SQL of 'success' or 'failure'."""
    told = "COALESCE(l.status, l.metadata->>'status')" if schema.has(SPEND_LOGS, "status") else "l.metadata->>'status'"
    return f"CASE WHEN {told} = 'failure' THEN 'failure' ELSE 'success' END"


def error_type(schema: Schema) -> str:
    """SQL of the class of a failed request's error; '' for a success."""
    told = "l.metadata->'error_information'->>'error_class'"
    return f"CASE WHEN {status(schema)} = 'failure' THEN COALESCE(NULLIF({told}, ''), 'unknown') ELSE '' END"


def groups(schema: Schema, step: int) -> str:
    """Rows of each bucket by everything they are labelled with.

    Columns: bucket, model, provider, status, error type, user, team, organization, key, requests, spend,
    prompt, completion and total tokens, cache hits, cache misses. Parameters: start, stop (NULL: no end).
    """
    organization = "COALESCE(l.organization_id, '')" if schema.has(SPEND_LOGS, "organization_id") else "''"
    return f"""
SELECT {_bucket(step)}, l.model, COALESCE(l.custom_llm_provider, ''), {status(schema)}, {error_type(schema)},
       COALESCE(l."user", ''), COALESCE(l.team_id, ''), {organization}, l.api_key,
       count(*), COALESCE(sum(l.spend), 0)::float8, COALESCE(sum(l.prompt_tokens), 0)::bigint,
       COALESCE(sum(l.completion_tokens), 0)::bigint, COALESCE(sum(l.total_tokens), 0)::bigint,
       count(*) FILTER (WHERE lower(l.cache_hit) = 'true'), count(*) FILTER (WHERE lower(l.cache_hit) = 'false')
FROM "{SPEND_LOGS}" l WHERE {_RANGE}
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9"""


def durations(step: int) -> str:
    """Rows of each bucket by model and histogram bucket: bucket, model, index into BUCKETS (its length: +Inf),
    requests, seconds. A bound belongs to its own bucket; times are whole milliseconds."""
    seconds = 'GREATEST(extract(epoch FROM l."endTime" - l."startTime"), 0)::float8'
    bounds = ", ".join(map(str, BUCKETS))
    return f"""
SELECT {_bucket(step)}, l.model, width_bucket({seconds} - 1e-6, ARRAY[{bounds}]::float8[]), count(*), sum({seconds})
FROM "{SPEND_LOGS}" l WHERE {_RANGE}
GROUP BY 1, 2, 3"""


def tags(step: int) -> str:
    """Rows of each bucket by their array of tags: bucket, array, requests, spend, prompt, completion and total
    tokens. Arrays repeat far more often than single tags are shared, so they are taken apart by rows.py."""
    return f"""
SELECT {_bucket(step)}, l.request_tags, count(*), COALESCE(sum(l.spend), 0)::float8,
       COALESCE(sum(l.prompt_tokens), 0)::bigint, COALESCE(sum(l.completion_tokens), 0)::bigint,
       COALESCE(sum(l.total_tokens), 0)::bigint
FROM "{SPEND_LOGS}" l WHERE {_RANGE} AND l.request_tags IS NOT NULL AND l.request_tags <> '[]'
GROUP BY 1, 2"""


DETAILS = ("cache_read", "cache_creation", "reasoning")
_DETAIL_PATHS = {
    "cache_read": (
        "{additional_usage_values,cache_read_input_tokens}",
        "{additional_usage_values,prompt_tokens_details,cached_tokens}",
        "{usage_object,cache_read_input_tokens}",
        "{usage_object,prompt_tokens_details,cached_tokens}",
    ),
    "cache_creation": (
        "{additional_usage_values,cache_creation_input_tokens}",
        "{usage_object,cache_creation_input_tokens}",
    ),
    "reasoning": (
        "{additional_usage_values,completion_tokens_details,reasoning_tokens}",
        "{usage_object,completion_tokens_details,reasoning_tokens}",
    ),
}


def details(step: int) -> str:
    """Tokens of each bucket that metadata tells apart: bucket, model, requests, then one sum for each of DETAILS.

    Reads `metadata` of every row in the range: for narrow ranges only.
    """
    sums = []
    for name in DETAILS:
        numbers = ", ".join(
            f"CASE WHEN jsonb_typeof(l.metadata #> '{path}') = 'number' THEN (l.metadata #>> '{path}')::numeric END"
            for path in _DETAIL_PATHS[name]
        )
        sums.append(f"COALESCE(sum(GREATEST({numbers})), 0)::bigint")  # told in one place or in several, as a 0 or not
    return f"""
SELECT {_bucket(step)}, l.model, count(*), {", ".join(sums)}
FROM "{SPEND_LOGS}" l WHERE {_RANGE}
GROUP BY 1, 2"""


def _whose(schema: Schema) -> str:
    organization = "COALESCE(l.organization_id, '')" if schema.has(SPEND_LOGS, "organization_id") else "''"
    return f"""COALESCE(l."user", ''), COALESCE(l.team_id, ''), {organization}, l.api_key, COALESCE(l.end_user, '')"""


def minute(schema: Schema) -> str:
    """Rows of a short range by model and by whose they are: model, user, team, organization, key, customer,
    requests, total tokens."""
    return f"""
SELECT l.model, {_whose(schema)}, count(*), COALESCE(sum(l.total_tokens), 0)::bigint
FROM "{SPEND_LOGS}" l WHERE {_RANGE}
GROUP BY 1, 2, 3, 4, 5, 6"""


def running(schema: Schema) -> str:
    """Requests that began in a range and ended after a moment: user, team, organization, key, customer, start
    and end in Unix seconds. Parameters: start, stop, moment."""
    return f"""
SELECT {_whose(schema)}, extract(epoch FROM l."startTime")::float8, extract(epoch FROM l."endTime")::float8
FROM "{SPEND_LOGS}" l WHERE {_RANGE} AND l."endTime" > %(moment)s"""


def checks() -> str:
    """The fingerprint of each hour: hour, rows, spend, total tokens."""
    return f"""
SELECT {_bucket(3600)}, count(*), COALESCE(sum(l.spend), 0)::float8, COALESCE(sum(l.total_tokens), 0)::bigint
FROM "{SPEND_LOGS}" l WHERE {_RANGE}
GROUP BY 1"""


def newest() -> str:
    """The newest "startTime" that stands in the log, by its index, and the latest "endTime" that goes with it."""
    return (
        f'SELECT l."startTime", l."endTime" FROM "{SPEND_LOGS}" l ORDER BY l."startTime" DESC, l."endTime" DESC LIMIT 1'
    )
