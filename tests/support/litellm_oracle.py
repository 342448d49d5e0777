"""Every figure of LiteLLM's database once more, in plain SQL from what the figure is said to mean.

Slow and simple on purpose: all rows are read each time, nothing is remembered, money is numeric. Columns that an old
schema lacks read as NULL: by way of to_jsonb, or of a name that an outer table has as well. It owes nothing to
tallykeep's modules but the names of families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg

Labels = tuple[str, ...]
Values = dict[tuple[str, Labels], float]


class Times(NamedTuple):
    """Moments in Unix seconds."""

    now: float
    spend: float  # start of the spend window
    keys: float  # of the 30 days of keys
    request: float
    error: float
    since: float  # from when on counters count
    details: float  # from when on metadata was read


_REQUESTS = """
CREATE TEMP TABLE requests AS
WITH l AS (
    SELECT s.*, (SELECT status FROM (SELECT s.*) its) AS told, (SELECT organization_id FROM (SELECT s.*) its) AS own
    FROM "LiteLLM_SpendLogs" s CROSS JOIN (VALUES (NULL::text, NULL::text)) AS missing (status, organization_id)
)
SELECT l."startTime" AS began, l."endTime" AS ended,
       GREATEST(extract(epoch FROM l."endTime" - l."startTime"), 0)::numeric AS seconds,
       COALESCE(NULLIF(l.model, ''), 'unknown') AS model,
       COALESCE(NULLIF(l.custom_llm_provider, ''), 'none') AS provider,
       CASE WHEN COALESCE(l.told, l.metadata->>'status') = 'failure' THEN 'failure' ELSE 'success' END AS status,
       COALESCE(NULLIF(l.metadata->'error_information'->>'error_class', ''), 'unknown') AS error,
       COALESCE(NULLIF(l."user", ''), 'none') AS who,
       COALESCE(NULLIF(l.team_id, ''), 'none') AS team,
       COALESCE(NULLIF(l.own, ''), NULLIF(t.organization_id, ''), NULLIF(k.organization_id, ''), 'none') AS org,
       COALESCE(NULLIF(l.api_key, ''), 'none') AS key,
       COALESCE(NULLIF(l.end_user, ''), 'none') AS customer,
       l.spend::numeric AS spend, l.prompt_tokens AS prompt, l.completion_tokens AS completion,
       l.total_tokens AS tokens, lower(l.cache_hit) AS cache_hit, l.request_tags AS tags, l.metadata AS metadata
FROM l LEFT JOIN "LiteLLM_TeamTable" t ON t.team_id = l.team_id
       LEFT JOIN "LiteLLM_VerificationToken" k ON k.token = l.api_key
WHERE l."startTime" >= LEAST(%(spend)s::timestamp, %(keys)s, %(request)s, %(error)s, %(since)s)
"""

_ALIASES = """
CREATE TEMP TABLE aliases AS
SELECT 'user' AS kind, user_id AS id, COALESCE(NULLIF(user_alias, ''), 'none') AS alias FROM "LiteLLM_UserTable"
UNION ALL SELECT 'team', team_id, COALESCE(NULLIF(team_alias, ''), 'none') FROM "LiteLLM_TeamTable"
UNION ALL SELECT 'organization', organization_id, COALESCE(NULLIF(organization_alias, ''), 'none')
          FROM "LiteLLM_OrganizationTable"
UNION ALL SELECT 'key', token, COALESCE(NULLIF(key_alias, ''), 'none') FROM "LiteLLM_VerificationToken"
UNION ALL SELECT 'customer', user_id, COALESCE(NULLIF(alias, ''), 'none') FROM "LiteLLM_EndUserTable"
"""

# Requests of the last two hours, once for everyone they count for.
_PARTIES = """
CREATE TEMP TABLE parties AS
SELECT r.*, p.kind, p.id, COALESCE(a.alias, 'none') AS alias
FROM requests r
CROSS JOIN LATERAL (
    VALUES ('user', r.who), ('team', r.team), ('organization', r.org), ('key', r.key), ('customer', r.customer)
) AS p (kind, id)
LEFT JOIN aliases a USING (kind, id)
WHERE p.id <> 'none' AND r.began >= %(now)s::timestamp - interval '2 hours'
"""

# Everyone's limits: their own, else those of their budget row.
_ENTITIES = """
CREATE TEMP TABLE entities AS
WITH e AS (
    SELECT 'key' AS kind, token AS id, COALESCE(NULLIF(key_alias, ''), 'none') AS alias, to_jsonb(k) AS j
    FROM "LiteLLM_VerificationToken" k
    UNION ALL SELECT 'user', user_id, COALESCE(NULLIF(user_alias, ''), 'none'), to_jsonb(u) FROM "LiteLLM_UserTable" u
    UNION ALL SELECT 'team', team_id, COALESCE(NULLIF(team_alias, ''), 'none'), to_jsonb(t) FROM "LiteLLM_TeamTable" t
    UNION ALL SELECT 'organization', organization_id, COALESCE(NULLIF(organization_alias, ''), 'none'), to_jsonb(o)
              FROM "LiteLLM_OrganizationTable" o
    UNION ALL SELECT 'member', m.team_id || '/' || m.user_id, COALESCE(NULLIF(u.user_alias, ''), 'none'), to_jsonb(m)
              FROM "LiteLLM_TeamMembership" m LEFT JOIN "LiteLLM_UserTable" u USING (user_id)
    UNION ALL SELECT 'member', m.organization_id || '/' || m.user_id, COALESCE(NULLIF(u.user_alias, ''), 'none'),
                     to_jsonb(m) - 'spend'
              FROM "LiteLLM_OrganizationMembership" m LEFT JOIN "LiteLLM_UserTable" u USING (user_id)
    UNION ALL SELECT 'customer', user_id, COALESCE(NULLIF(alias, ''), 'none'), to_jsonb(c) - 'models'
              FROM "LiteLLM_EndUserTable" c
)
SELECT e.kind, e.id, e.alias, e.j, (e.j->>'spend')::numeric AS spend,
       COALESCE(e.j->>'max_budget', b.max_budget::text)::numeric AS max_budget,
       COALESCE(e.j->>'soft_budget', b.soft_budget::text)::numeric AS soft_budget,
       COALESCE(e.j->>'tpm_limit', b.tpm_limit::text)::numeric AS tpm,
       COALESCE(e.j->>'rpm_limit', b.rpm_limit::text)::numeric AS rpm,
       COALESCE(e.j->>'max_parallel_requests', b.max_parallel_requests::text)::numeric AS parallel,
       COALESCE((e.j->>'budget_reset_at')::timestamp, b.budget_reset_at) AS reset
FROM e LEFT JOIN "LiteLLM_BudgetTable" b ON b.budget_id = e.j->>'budget_id'
"""

_TABLES = (_REQUESTS, _ALIASES, _PARTIES, _ENTITIES)


def _windowed(columns: str, value: str, start: str, where: str = "true") -> str:
    places = ", ".join(str(place + 1) for place in range(len(columns.split(", "))))
    return f"SELECT {columns}, {value} FROM requests WHERE began >= %({start})s AND {where} GROUP BY {places}"


def _aliased(kind: str, column: str, start: str, more: str = "") -> str:
    by = f"r.{column}, COALESCE(a.alias, 'none')" + (f", r.{more}" if more else "")
    there = (
        ""
        if start != "since"
        else f"""
        HAVING bool_or(a.id IS NOT NULL) OR bool_or(r.began >= %({"keys" if kind == "key" else "spend"})s)"""
    )
    return f"""
SELECT {by}, sum(r.spend) FROM requests r LEFT JOIN aliases a ON a.kind = '{kind}' AND a.id = r.{column}
WHERE r.began >= %({start})s GROUP BY {by} {there}"""


def _keyed(columns: str, start: str) -> str:
    there = "" if start != "since" else "HAVING bool_or(k.token IS NOT NULL) OR bool_or(r.began >= %(keys)s)"
    return f"""
SELECT {columns}, sum(r.spend) FROM requests r LEFT JOIN "LiteLLM_VerificationToken" k ON k.token = r.key
WHERE r.began >= %({start})s GROUP BY {columns} {there}"""


_NAME_ALIAS = "COALESCE(NULLIF(k.key_name, ''), 'none'), COALESCE(NULLIF(k.key_alias, ''), 'none')"
_FAILED = "status = 'failure'"


def _limit(column: str) -> str:
    return f"SELECT kind, id, alias, {column} FROM entities WHERE {column} IS NOT NULL"


def _key_table(value: str, where: str) -> str:
    return f"""
SELECT {_NAME_ALIAS}, {value} FROM "LiteLLM_VerificationToken" k JOIN entities e ON e.kind = 'key' AND e.id = k.token
WHERE {where} GROUP BY 1, 2"""


def _key_count(comparison: str) -> str:
    """Keys by expiry, of everyone who has any key."""
    return f"""
SELECT o.kind, o.id, COALESCE(a.alias, 'none'), count(*) FILTER (WHERE {comparison})
FROM (SELECT *, to_jsonb(t)->>'organization_id' AS org FROM "LiteLLM_VerificationToken" t) k
CROSS JOIN LATERAL (VALUES ('user', k.user_id), ('team', k.team_id), ('organization', k.org)) AS o (kind, id)
LEFT JOIN aliases a USING (kind, id)
WHERE o.id <> '' GROUP BY 1, 2, 3"""


def _last_minute(value: str) -> str:
    return f"""
SELECT model, kind, id, alias, {value} FROM parties
WHERE began >= %(minute)s::timestamp - interval '1 minute' AND began < %(minute)s GROUP BY 1, 2, 3, 4"""


# Requests that ran at the moment one of them began (or the minute did); the most of it.
_PARALLEL = """
WITH x AS (
    SELECT kind, id, alias, began, ended FROM parties
    WHERE began < %(minute)s::timestamp - interval '10 minutes' AND ended > began
      AND ended > %(minute)s::timestamp - interval '11 minutes'
), points AS (
    SELECT DISTINCT kind, id, GREATEST(began, %(minute)s::timestamp - interval '11 minutes') AS moment FROM x
)
SELECT kind, id, alias, max(running) FROM (
    SELECT x.kind, x.id, x.alias, p.moment, count(*) AS running
    FROM points p JOIN x USING (kind, id) WHERE x.began <= p.moment AND x.ended > p.moment GROUP BY 1, 2, 3, 4
) counted GROUP BY 1, 2, 3"""

_DETAILS = {
    "cache_read": ("cache_read_input_tokens", "prompt_tokens_details,cached_tokens"),
    "cache_creation": ("cache_creation_input_tokens",),
    "reasoning": ("completion_tokens_details,reasoning_tokens",),
}


def _details() -> str:
    parts = []
    for kind, paths in _DETAILS.items():
        told = ", ".join(
            f"(metadata #>> '{{{where},{path}}}')::numeric"
            for path in paths
            for where in ("additional_usage_values", "usage_object")
        )
        parts.append(f"""
SELECT model, '{kind}', sum(GREATEST({told})) FROM requests WHERE began >= %(details)s
GROUP BY 1 HAVING sum(GREATEST({told})) > 0""")
    return " UNION ALL ".join(parts)


_KNOWN = """
(SELECT count(*) FROM (
    SELECT model FROM requests WHERE began >= %(spend)s AND model <> 'unknown'
    UNION SELECT model_name FROM "LiteLLM_ProxyModelTable"
) m)"""
_AVAILABLE = f"""
SELECT kind, id, alias, CASE
    WHEN COALESCE(jsonb_array_length(NULLIF(j->'models', 'null')), 0) = 0 THEN {_KNOWN}
    WHEN j->'models' ? 'all-proxy-models' THEN {_KNOWN}
    ELSE (SELECT count(DISTINCT m) FROM jsonb_array_elements_text(j->'models') m WHERE m <> 'no-default-models')
END FROM entities WHERE kind IN ('key', 'user', 'team', 'organization')"""

_BLOCKED = """
SELECT kind, id, alias, COALESCE((j->>'blocked')::boolean, false)::int FROM entities
WHERE kind IN ('key', 'team', 'customer')"""

_UTILIZATION = """
SELECT kind, id, alias, CASE WHEN max_budget > 0 THEN (spend / max_budget * 100)::float8
                             WHEN spend > 0 THEN 'Infinity' ELSE 0 END
FROM entities WHERE max_budget IS NOT NULL AND spend IS NOT NULL"""

_TAG = """
SELECT tag, sum(spend) FROM requests CROSS JOIN LATERAL (
    SELECT DISTINCT t AS tag
    FROM jsonb_array_elements_text(CASE WHEN jsonb_typeof(tags) = 'array' THEN tags ELSE '[]' END) t
) each WHERE began >= %(spend)s GROUP BY 1"""


def _tokens(by: str) -> str:
    prompt = _windowed(f"{by}, 'prompt'", "sum(prompt)", "since")
    completion = _windowed(f"{by}, 'completion'", "sum(completion)", "since")
    return f"{prompt} UNION ALL {completion}"


def _roles(where: str) -> str:
    """LiteLLM's members_with_roles, of teams that have any."""
    return f"""
SELECT id, alias, (SELECT count(*) FROM jsonb_array_elements(
    CASE WHEN jsonb_typeof(j->'members_with_roles') = 'array' THEN j->'members_with_roles' ELSE '[]' END) m {where})
FROM entities WHERE kind = 'team'"""


# By family: label columns in the family's order, then the value.
QUERIES: Mapping[str, str] = {
    "litellm_total_spend": _windowed("model", "sum(spend)", "spend"),
    "litellm_user_spend": _aliased("user", "who", "spend", "model"),
    "litellm_team_spend": _aliased("team", "team", "spend", "model"),
    "litellm_org_spend": _aliased("organization", "org", "spend", "model"),
    "litellm_tag_spend": _TAG,
    "litellm_key_spend": _keyed(_NAME_ALIAS, "keys"),
    "litellm_key_hash_spend": _keyed(f"r.key, {_NAME_ALIAS}", "keys"),
    "litellm_provider_spend": _windowed("provider", "sum(spend)", "spend"),
    "litellm_total_tokens": _windowed("model", "sum(tokens)", "spend"),
    "litellm_prompt_tokens": _windowed("model", "sum(prompt)", "spend"),
    "litellm_completion_tokens": _windowed("model", "sum(completion)", "spend"),
    "litellm_window_requests": _windowed("model, status", "count(*)", "request"),
    "litellm_window_tokens": _windowed("model", "sum(tokens)", "request"),
    "litellm_window_request_rate": _windowed("model", "count(*)::float8 / %(request_length)s", "request"),
    "litellm_window_errors": _windowed("model, error", "count(*)", "error", _FAILED),
    "litellm_error_rate": _windowed(
        "model", f"count(*) FILTER (WHERE {_FAILED})::float8 / (%(error_length)s / 60.0)", "error"
    ),
    "litellm_current_tpm": _last_minute("sum(tokens)"),
    "litellm_current_rpm": _last_minute("count(*)"),
    "litellm_parallel_requests": _PARALLEL,
    "litellm_requests_total": _windowed("model, status", "count(*)", "since"),
    "litellm_errors_total": _windowed("model, error", "count(*)", "since", _FAILED),
    "litellm_cache_hits_total": _windowed("model", "count(*) FILTER (WHERE cache_hit = 'true')", "since"),
    "litellm_cache_misses_total": _windowed("model", "count(*) FILTER (WHERE cache_hit = 'false')", "since"),
    "litellm_spend_dollars_total": _windowed("model", "sum(spend)", "since"),
    "litellm_tokens_total": _tokens("model"),
    "litellm_user_spend_dollars_total": _aliased("user", "who", "since"),
    "litellm_team_spend_dollars_total": _aliased("team", "team", "since"),
    "litellm_org_spend_dollars_total": _aliased("organization", "org", "since"),
    "litellm_key_spend_dollars_total": _keyed(f"r.key, {_NAME_ALIAS}", "since"),
    "litellm_provider_spend_dollars_total": _windowed("provider", "sum(spend)", "since"),
    "litellm_provider_requests_total": _windowed("provider, status", "count(*)", "since"),
    "litellm_provider_tokens_total": _tokens("provider"),
    "litellm_detail_tokens_total": _details(),
    "litellm_tpm_limit": _limit("tpm"),
    "litellm_rpm_limit": _limit("rpm"),
    "litellm_max_parallel_requests": _limit("parallel"),
    "litellm_max_budget": _limit("max_budget"),
    "litellm_soft_budget": _limit("soft_budget"),
    "litellm_remaining_budget": (
        "SELECT kind, id, alias, max_budget - spend FROM entities WHERE max_budget IS NOT NULL AND spend IS NOT NULL"
    ),
    "litellm_budget_utilization": _UTILIZATION,
    "litellm_budget_reset_time": (
        "SELECT kind, id, alias, extract(epoch FROM reset) FROM entities WHERE reset IS NOT NULL"
    ),
    "litellm_blocked_status": _BLOCKED,
    "litellm_member_count": _roles(""),
    "litellm_admin_count": _roles("WHERE m->>'role' = 'admin'"),
    "litellm_active_keys": _key_count("k.expires IS NULL OR k.expires > %(now)s"),
    "litellm_expired_keys": _key_count("k.expires <= %(now)s"),
    "litellm_key_expiry": _key_table("extract(epoch FROM min(k.expires))", "k.expires IS NOT NULL"),
    "litellm_key_hash_expiry_seconds": (
        f"SELECT k.token, {_NAME_ALIAS}, extract(epoch FROM k.expires) "
        'FROM "LiteLLM_VerificationToken" k WHERE k.expires IS NOT NULL'
    ),
    "litellm_key_budget": _key_table("sum(e.max_budget)", "e.max_budget IS NOT NULL"),
    "litellm_key_budget_spend": _key_table("sum(e.spend)", "e.max_budget IS NOT NULL"),
    "litellm_available_models": _AVAILABLE,
    "litellm_model_info": """
SELECT DISTINCT model_name, COALESCE(litellm_params->>'custom_llm_provider', 'none'), 'database', 1
FROM "LiteLLM_ProxyModelTable"
UNION SELECT DISTINCT model, provider, 'log', 1 FROM requests WHERE began >= %(spend)s AND model <> 'unknown'""",
    "litellm_newest_row_age_seconds": (
        "SELECT extract(epoch FROM max(ended)) FROM requests WHERE began = (SELECT max(began) FROM requests) "
        "HAVING count(*) > 0"
    ),
}

HISTOGRAM = "litellm_request_duration_seconds"

# What says how the program itself fares, or rests on a pass of its own: no statement over the rows is the same.
OWN = frozenset({
    "litellm_schema_missing", "litellm_checked_until_timestamp_seconds", "litellm_check_rounds_total",
    "litellm_repaired_blocks_total", "litellm_reconciliation_difference_dollars", "litellm_reconciled_entities",
})  # fmt: skip


def utc(unix: float) -> datetime:
    """As LiteLLM stores it."""
    return datetime.fromtimestamp(unix, UTC).replace(tzinfo=None)


def oracle(dsn: str, times: Times, buckets: Sequence[float]) -> Values:
    """Every figure at `times`. A histogram's has the label `le` (not cumulative) or `sum` at its end."""
    parameters: dict[str, Any] = {name: utc(moment) for name, moment in times._asdict().items()}
    parameters["minute"] = utc(times.now // 60 * 60)
    parameters |= {"request_length": _length(times, times.request), "error_length": _length(times, times.error)}
    found: Values = {}
    with psycopg.connect(dsn, options="-c TimeZone=UTC -c jit=off", cursor_factory=psycopg.ClientCursor) as connection:
        for table in _TABLES:
            connection.execute(table, parameters)
        for family, query in QUERIES.items():
            for *labels, value in connection.execute(query, parameters):
                assert (family, tuple(labels)) not in found, f"{family}{labels} twice"
                found[family, tuple(labels)] = float(value)
        found |= _histogram(connection, parameters, buckets)
    return found


def _length(times: Times, start: float) -> float:
    """Seconds of a window, of which the start was moved to a whole minute."""
    return (times.now - start) // 60 * 60


def _histogram(connection: psycopg.Connection[Any], parameters: Mapping[str, Any], buckets: Sequence[float]) -> Values:
    found: Values = {}
    query = """
        SELECT model, array_agg(below ORDER BY bound), max(seconds) FROM (
            SELECT model, bound, count(*) FILTER (WHERE seconds <= bound) AS below, sum(seconds) AS seconds
            FROM requests CROSS JOIN unnest(%(bounds)s::float8[]) AS bound
            WHERE began >= %(since)s GROUP BY 1, 2
        ) each GROUP BY 1"""
    bounds = [*buckets, float("inf")]
    for model, below, seconds in connection.execute(query, {**parameters, "bounds": bounds}):
        for bound, count, before in zip(bounds, below, [0, *below], strict=False):
            found[HISTOGRAM, (model, str(bound))] = count - before
        found[HISTOGRAM, (model, "sum")] = float(seconds)
    return found
