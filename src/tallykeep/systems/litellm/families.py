"""The metric families of LiteLLM's database: the 34 published ones, and those that make them true.

Windows start on a whole minute and end now: they hold the rows whose "startTime" is not before it. A window can
fall, so no rate() of it means anything; the families that end in _total are counters and never fall. Missing
ids and aliases are "none", a missing model is "unknown". With more than one database configured every family has
the label `database` as well.
Source: contract/metrics.tsv; LiteLLM's migrations from March 2025 on.
"""

from __future__ import annotations

from tallykeep.metrics import Alert, Family, Kind
from tallykeep.systems.litellm.statements import BUCKETS
from tallykeep.units import COUNT, DOLLARS, FLAG, PERCENT, SECONDS, TIMESTAMP, Unit

_NO_UNIT = "published name: it leaves its unit out"
_NOT_A_COUNT = "published name: promtool takes _count for a histogram's"
_ENTITY = ("entity_type", "entity_id", "entity_alias")
_KEY = ("key_name", "key_alias")
_KEY_HASH = ("key_hash", "key_name", "key_alias")
_SPEND_WINDOW = "over the spend window (METRICS_SPEND_WINDOW, 30d), from a whole minute until now"
_REQUEST_WINDOW = "over the request window (METRICS_REQUEST_WINDOW, 24h), from a whole minute until now"
_ERROR_WINDOW = "over the error window (METRICS_ERROR_WINDOW, 1h), from a whole minute until now"
_SINCE = "since tallykeep first read this database, the spend window before it included"
_PER_MINUTE = Unit("_per_minute", "{item}/min", "cpm")


def _window(name: str, labels: tuple[str, ...], help: str, unit: Unit = DOLLARS, legacy: str = _NO_UNIT) -> Family:
    return Family(name, Kind.GAUGE, unit, labels, help, legacy=legacy)


# Spend over the spend window.

TOTAL_SPEND = _window("litellm_total_spend", ("model",), f"Dollars spent by model, {_SPEND_WINDOW}.")
USER_SPEND = _window(
    "litellm_user_spend", ("user_id", "user_alias", "model"), f"Dollars spent by user and model, {_SPEND_WINDOW}."
)
TEAM_SPEND = _window(
    "litellm_team_spend", ("team_id", "team_alias", "model"), f"Dollars spent by team and model, {_SPEND_WINDOW}."
)
ORG_SPEND = _window(
    "litellm_org_spend", ("organization_id", "organization_alias", "model"),
    f"Dollars spent by organization and model, {_SPEND_WINDOW}. The organization is the request's own, else that of "
    "its team, else that of its key.",
)  # fmt: skip
TAG_SPEND = _window(
    "litellm_tag_spend", ("tag",),
    f"Dollars spent by request tag, {_SPEND_WINDOW}. A request counts under each of its tags.",
)  # fmt: skip
KEY_SPEND = _window(
    "litellm_key_spend", _KEY,
    "Dollars spent by API key over the last 30 days. Keys that share name and alias are summed.",
)  # fmt: skip
KEY_HASH_SPEND = _window(
    "litellm_key_hash_spend", _KEY_HASH, "Dollars spent by API key over the last 30 days, one series a key."
)
PROVIDER_SPEND = _window("litellm_provider_spend", ("provider",), f"Dollars spent by provider, {_SPEND_WINDOW}.")

# Tokens over the spend window.

TOTAL_TOKENS = _window("litellm_total_tokens", ("model",), f"Tokens by model, {_SPEND_WINDOW}.", COUNT)
PROMPT_TOKENS = _window("litellm_prompt_tokens", ("model",), f"Prompt tokens by model, {_SPEND_WINDOW}.", COUNT)
COMPLETION_TOKENS = _window(
    "litellm_completion_tokens", ("model",), f"Completion tokens by model, {_SPEND_WINDOW}.", COUNT
)

# The request and the error window.

WINDOW_REQUESTS = _window(
    "litellm_window_requests", ("model", "status"), f"Requests by model and status, {_REQUEST_WINDOW}.", COUNT
)
WINDOW_TOKENS = _window("litellm_window_tokens", ("model",), f"Tokens by model, {_REQUEST_WINDOW}.", COUNT)
WINDOW_REQUEST_RATE = _window(
    "litellm_window_request_rate", ("model",), f"Requests per second by model, {_REQUEST_WINDOW}.", COUNT
)
WINDOW_ERRORS = _window(
    "litellm_window_errors", ("model", "error_type"), f"Failed requests by model and class of error, {_ERROR_WINDOW}.",
    COUNT,
)  # fmt: skip
ERROR_RATE = _window(
    "litellm_error_rate", ("model",),
    f"Failed requests per minute by model, {_ERROR_WINDOW}. 0 for a model whose requests all succeeded.", _PER_MINUTE,
)  # fmt: skip
CURRENT_TPM = _window(
    "litellm_current_tpm", ("model", *_ENTITY),
    "Tokens of requests that began in the last whole minute. A request is in the log only after it has ended and a "
    "batch was written, so this reads low.", COUNT,
)  # fmt: skip
CURRENT_RPM = _window(
    "litellm_current_rpm", ("model", *_ENTITY),
    "Requests that began in the last whole minute. A request is in the log only after it has ended and a batch was "
    "written, so this reads low.", COUNT,
)  # fmt: skip
PARALLEL_REQUESTS = _window(
    "litellm_parallel_requests", _ENTITY,
    "Most requests of the entity that ran at once in the minute that ended ten minutes ago; by then those that ran "
    "in it are in the log.", COUNT,
)  # fmt: skip

# Counters.

REQUESTS = Family(
    "litellm_requests_total", Kind.COUNTER, COUNT, ("model", "status"),
    f"Requests by model and status (success, failure), {_SINCE}.",
)  # fmt: skip
ERRORS = Family(
    "litellm_errors_total", Kind.COUNTER, COUNT, ("model", "error_type"),
    f"Failed requests by model and class of error, {_SINCE}.",
)  # fmt: skip
CACHE_HITS = Family(
    "litellm_cache_hits_total", Kind.COUNTER, COUNT, ("model",),
    f"Requests answered from LiteLLM's cache, by model, {_SINCE}.",
)  # fmt: skip
CACHE_MISSES = Family(
    "litellm_cache_misses_total", Kind.COUNTER, COUNT, ("model",),
    f"Requests that LiteLLM's cache could not answer, by model, {_SINCE}.",
)  # fmt: skip
DURATION = Family(
    "litellm_request_duration_seconds", Kind.HISTOGRAM, SECONDS, ("model",),
    f"Duration of requests (endTime - startTime) by model, {_SINCE}.", buckets=BUCKETS,
)  # fmt: skip
SPEND = Family("litellm_spend_dollars_total", Kind.COUNTER, DOLLARS, ("model",), f"Dollars spent by model, {_SINCE}.")
TOKENS = Family(
    "litellm_tokens_total",
    Kind.COUNTER,
    COUNT,
    ("model", "type"),
    f"Tokens by model and type (prompt, completion), {_SINCE}.",
)
USER_SPEND_TOTAL = Family(
    "litellm_user_spend_dollars_total", Kind.COUNTER, DOLLARS, ("user_id", "user_alias"),
    f"Dollars spent by user, {_SINCE}.",
)  # fmt: skip
TEAM_SPEND_TOTAL = Family(
    "litellm_team_spend_dollars_total", Kind.COUNTER, DOLLARS, ("team_id", "team_alias"),
    f"Dollars spent by team, {_SINCE}.",
)  # fmt: skip
ORG_SPEND_TOTAL = Family(
    "litellm_org_spend_dollars_total", Kind.COUNTER, DOLLARS, ("organization_id", "organization_alias"),
    f"Dollars spent by organization, {_SINCE}.",
)  # fmt: skip
KEY_SPEND_TOTAL = Family(
    "litellm_key_spend_dollars_total", Kind.COUNTER, DOLLARS, _KEY_HASH, f"Dollars spent by API key, {_SINCE}."
)
PROVIDER_SPEND_TOTAL = Family(
    "litellm_provider_spend_dollars_total", Kind.COUNTER, DOLLARS, ("provider",),
    f"Dollars spent by provider, {_SINCE}.",
)  # fmt: skip
PROVIDER_REQUESTS = Family(
    "litellm_provider_requests_total", Kind.COUNTER, COUNT, ("provider", "status"),
    f"Requests by provider and status, {_SINCE}.",
)  # fmt: skip
PROVIDER_TOKENS = Family(
    "litellm_provider_tokens_total", Kind.COUNTER, COUNT, ("provider", "type"),
    f"Tokens by provider and type (prompt, completion), {_SINCE}.",
)  # fmt: skip
DETAIL_TOKENS = Family(
    "litellm_detail_tokens_total", Kind.COUNTER, COUNT, ("model", "type"),
    "Tokens that the request's metadata tells apart, by model and type (cache_read, cache_creation, reasoning), since "
    "tallykeep first read this database; history before that is not read for them.",
)  # fmt: skip

# Limits, budgets and states, each from the entity's own table.

TPM_LIMIT = _window("litellm_tpm_limit", _ENTITY, "Tokens-per-minute limit of the entity.", COUNT)
RPM_LIMIT = _window("litellm_rpm_limit", _ENTITY, "Requests-per-minute limit of the entity.", COUNT)
MAX_PARALLEL = _window(
    "litellm_max_parallel_requests", _ENTITY, "Most requests the entity may have running at once.", COUNT
)
MAX_BUDGET = _window("litellm_max_budget", _ENTITY, "Maximum budget of the entity in dollars.")
SOFT_BUDGET = _window("litellm_soft_budget", _ENTITY, "Soft budget of the entity in dollars: LiteLLM warns beyond it.")
REMAINING_BUDGET = _window(
    "litellm_remaining_budget", _ENTITY,
    "Dollars left of the maximum budget in the running cycle; below zero where it is overspent.",
)  # fmt: skip
BUDGET_UTILIZATION = Family(
    "litellm_budget_utilization", Kind.GAUGE, PERCENT, _ENTITY,
    "Spend of the running cycle as a percentage of the maximum budget; +Inf for spend against a budget of 0.",
    legacy=_NO_UNIT,
    alerts=(
        Alert(
            "LitellmBudgetNearlySpent", "{n} > 90",
            "{{ $labels.entity_type }} {{ $labels.entity_alias }} ({{ $labels.entity_id }}) has spent "
            "{{ $value | printf \"%.0f\" }} % of its budget.",
        ),
    ),
)  # fmt: skip
BUDGET_RESET = Family(
    "litellm_budget_reset_time", Kind.GAUGE, SECONDS, _ENTITY,
    "Seconds until the budget resets; below zero where the reset is overdue.", legacy=_NO_UNIT, countdown=True,
)  # fmt: skip
BLOCKED = _window("litellm_blocked_status", _ENTITY, "1 where the entity is blocked, else 0.", FLAG, "")
MEMBERS = _window("litellm_member_count", ("team_id", "team_alias"), "Members of the team.", COUNT, _NOT_A_COUNT)
ADMINS = _window("litellm_admin_count", ("team_id", "team_alias"), "Admins of the team.", COUNT, _NOT_A_COUNT)
ACTIVE_KEYS = _window("litellm_active_keys", _ENTITY, "API keys of the entity that have not expired.", COUNT)
EXPIRED_KEYS = _window("litellm_expired_keys", _ENTITY, "API keys of the entity that have expired.", COUNT)
KEY_EXPIRY = Family(
    "litellm_key_expiry", Kind.GAUGE, SECONDS, _KEY,
    "Seconds until the key expires; below zero once it has. The earliest of keys that share name and alias.",
    legacy=_NO_UNIT, countdown=True,
)  # fmt: skip
KEY_HASH_EXPIRY = Family(
    "litellm_key_hash_expiry_seconds", Kind.GAUGE, SECONDS, _KEY_HASH,
    "Seconds until the key expires, one series a key; below zero once it has.", countdown=True,
)  # fmt: skip
KEY_BUDGET = _window(
    "litellm_key_budget", _KEY, "Maximum budget of the key in dollars. Keys that share name and alias are summed."
)
KEY_BUDGET_SPEND = _window(
    "litellm_key_budget_spend", _KEY,
    "Dollars the key has spent in its running budget cycle, by LiteLLM's own account of it. Keys that share name and "
    "alias are summed.",
)  # fmt: skip
AVAILABLE_MODELS = _window(
    "litellm_available_models", _ENTITY,
    "Number of models on the entity's own list. An empty list means every known model: those configured in the "
    "database and those seen in the spend window.", COUNT,
)  # fmt: skip
MODEL_INFO = _window(
    "litellm_model_info", ("model", "provider", "source"),
    "1 for each model configured in the database (source database) or seen in the spend window (source log).", FLAG, "",
)  # fmt: skip

# Is it true, and is it current?

NEWEST_ROW = Family(
    "litellm_newest_row_age_seconds", Kind.GAUGE, SECONDS, (),
    "Seconds since the end of the newest request in the spend log: is LiteLLM still writing?", age=True,
    alerts=(
        Alert(
            "LitellmSpendLogSilent", "{n} > 3600 or absent({n})",
            "LiteLLM's spend log has had no new row for an hour, or tallykeep cannot read it.", hold="15m",
        ),
    ),
)  # fmt: skip
RECONCILIATION = _window(
    "litellm_reconciliation_difference_dollars", ("entity_type",),
    "Dollars by which the rows of the spend log and the entities' own spend columns differ, without their signs, for "
    "the entities whose running cycle lies within the log. As of the last pass; there is one every six hours.",
    DOLLARS, "",
)  # fmt: skip
RECONCILED = _window(
    "litellm_reconciled_entities", ("entity_type",),
    "Entities that the last reconciliation could compare: those whose running cycle lies within the log.", COUNT, "",
)  # fmt: skip
SCHEMA_MISSING = Family(
    "litellm_schema_missing", Kind.GAUGE, FLAG, ("what", "reason"),
    "1 for each table or column that this database does not provide: its schema has none (absent), or the role may "
    "not read it (refused). Only the figures that rest on it are missing.",
    alerts=(
        Alert(
            "LitellmTableRefused", '{n}{reason="refused"} == 1',
            "tallykeep's role may not read {{ $labels.what }}: figures that rest on it are missing.",
        ),
    ),
)  # fmt: skip
CHECKED = Family(
    "litellm_checked_until_timestamp_seconds", Kind.GAUGE, TIMESTAMP, (),
    "Unix time up to which the present round of checks has compared sealed hours with the log.",
)  # fmt: skip
CHECK_ROUNDS = Family(
    "litellm_check_rounds_total", Kind.COUNTER, COUNT, (), "Full rounds of checks over the sealed hours."
)
REPAIRED = Family(
    "litellm_repaired_blocks_total", Kind.COUNTER, COUNT, (),
    "Sealed blocks that a check found changed, by late or deleted rows, and read again.",
)  # fmt: skip

FAMILIES = tuple(value for value in tuple(globals().values()) if isinstance(value, Family))
