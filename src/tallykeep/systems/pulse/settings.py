"""Settings of pulse: which pages are scraped, where history is kept, how the API is served.

The published variables describe the target named default. Several targets, each a replica of its own, stand in
tallykeep.yaml under `pulse: targets:`.
Source: contract/environment.tsv; litellm-pulse 0.3 for the cache families.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from tallykeep.config.model import DEFAULT_TARGET, Secret, group, setting, several, targets
from tallykeep.config.parse import FLAG, PATH, PORT, Parser, duration, integer, one_of, size
from tallykeep.history.zone import zone_named

DEFAULT_PATH = Path("./data/litellm_pulse.db")

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{text!r} is not a URL")
    return text


def _family(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a metric name")
    return text


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if text != "*" and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query):
        raise ValueError(f"{text!r} is not an origin")
    return text


URL = Parser(_url, "an address such as http://litellm:4000/metrics/")
FAMILY = Parser(_family, "the name of samples on the page, such as litellm_spend_metric_total")
ORIGIN = Parser(_origin, "an origin such as https://dashboard.lan, without a path; or *")


def _metric(name: str, default: str) -> str:
    return setting(
        default, env=f"LITELLM_PULSE_METRIC_{name.upper()}", parse=FAMILY, help=f"Samples summed up as `{name}`."
    )


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """What each tracked figure is called on the page."""

    requests: str = _metric("requests", "litellm_proxy_total_requests_metric_total")
    failed_requests: str = _metric("failed_requests", "litellm_proxy_failed_requests_metric_total")
    tokens: str = _metric("tokens", "litellm_total_tokens_metric_total")
    input_tokens: str = _metric("input_tokens", "litellm_input_tokens_metric_total")
    output_tokens: str = _metric("output_tokens", "litellm_output_tokens_metric_total")
    reasoning_tokens: str = _metric("reasoning_tokens", "litellm_output_reasoning_tokens_metric_total")
    cost: str = _metric("cost", "litellm_spend_metric_total")
    in_flight_requests: str = _metric("in_flight_requests", "litellm_in_flight_requests")
    cache_hits: str = _metric("cache_hits", "litellm_cache_hits_metric_total")
    cache_misses: str = _metric("cache_misses", "litellm_cache_misses_metric_total")
    cached_tokens: str = _metric("cached_tokens", "litellm_cached_tokens_metric_total")
    input_cached_tokens: str = _metric("input_cached_tokens", "litellm_input_cached_tokens_metric_total")

    def items(self) -> Iterator[tuple[str, str]]:
        """(tracked name, name on the page) of each."""
        for name in MetricSettings.__dataclass_fields__:
            yield name, getattr(self, name)


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """One metrics page: one replica of the gateway, or a load balancer before several."""

    name: str = setting(DEFAULT_TARGET, help="Value of the label `target`.")
    url: str = setting(
        "http://litellm:4000/metrics/", env="LITELLM_PULSE_METRICS_URL", parse=URL, switch=True,
        help="Prometheus endpoint to scrape. LiteLLM redirects /metrics to /metrics/.",
    )  # fmt: skip
    api_key: Secret = setting(
        Secret(""), env="LITELLM_PULSE_METRICS_API_KEY", parse=Secret, switch=True,
        help="Sent as a Bearer token when not blank; never to another host that a redirect names.",
    )  # fmt: skip

    @property
    def shown(self) -> str:
        """The URL without a password in it."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(frozen=True, slots=True)
class PulseSettings:
    """Everything that can be said of pulse."""

    interval: float = setting(
        "60", env="LITELLM_PULSE_SCRAPE_INTERVAL", parse=duration(low=0.1), help="Seconds between two scrapes."
    )
    port: int = setting("8000", env="LITELLM_PULSE_PORT", parse=PORT, help="Port of the API. 0 takes a free one.")
    host: str = setting(
        "0.0.0.0",  # noqa: S104 - other machines are meant to ask
        env="LITELLM_PULSE_HOST",
        help="Address on which the API is served.",
    )
    verify_ssl: bool = setting(
        "false", env="LITELLM_PULSE_VERIFY_SSL", parse=FLAG,
        help="Whether the certificates of https targets are verified. Off by default, with a warning.",
    )  # fmt: skip
    timeout: float = setting(
        "30", env="LITELLM_PULSE_SCRAPE_TIMEOUT", parse=duration(low=0.1), help="Time after which a scrape has failed."
    )
    log_level: str = setting(
        "info", env="LITELLM_PULSE_LOG_LEVEL", parse=one_of("debug", "info", "warning", "error"),
        help="The least severe messages of pulse that are logged.",
    )  # fmt: skip
    timezone: str = setting(
        "UTC", env="LITELLM_PULSE_TIMEZONE",
        help="IANA zone of timestamps and of the boundaries of day, week and month. An unknown one falls back to "
        "UTC with a warning.",
    )  # fmt: skip
    db_path: Path = setting(
        "./data/litellm_pulse.db", env="LITELLM_PULSE_DB_PATH", parse=PATH,
        help="History file. Left at its default, and where there is no such file yet, it stands in the state "
        "directory. A database of litellm-pulse found there is taken over.",
    )  # fmt: skip
    retention_days: int = setting(
        "90", env="LITELLM_PULSE_DB_RETENTION_DAYS", parse=integer(1, 36500), help="Older history is purged hourly."
    )
    history_size: int = setting(
        "168", env="LITELLM_PULSE_HISTORY_SIZE", parse=integer(0, 1_000_000),
        help="Snapshots kept in memory, to serve history while the file is unavailable.",
    )  # fmt: skip
    page_limit: int = setting(
        "100MiB", env="LITELLM_PULSE_PAGE_LIMIT", parse=size(low=1024),
        help="A page larger than this, unpacked, is refused.",
    )  # fmt: skip
    api_token: Secret = setting(
        Secret(""), env="LITELLM_PULSE_API_TOKEN", parse=Secret,
        help="What clients of the API send as Bearer token, or as password of Basic. Without it the API is open.",
    )  # fmt: skip
    cors_origins: tuple[str, ...] = several(
        env="LITELLM_PULSE_CORS_ORIGINS", parse=ORIGIN, help="Origins whose pages may ask the API from a browser."
    )
    metrics: MetricSettings = group(MetricSettings, help="Names of the tracked figures on the page.")
    targets: tuple[TargetSettings, ...] = targets(TargetSettings, help="Pages to scrape.")

    def asked_for(self) -> bool:
        """Whether there is a page to scrape. (Any LITELLM_PULSE_* variable asks for the default one.)"""
        return bool(self.targets)

    @property
    def pages(self) -> tuple[TargetSettings, ...]:
        """The targets, or the default one."""
        return self.targets or (TargetSettings(),)

    @property
    def zone(self) -> ZoneInfo:
        """The zone; UTC, with a warning, where there is none of that name."""
        return zone_named(self.timezone, "LITELLM_PULSE_TIMEZONE")


def history_path(settings: PulseSettings, state: Path | None) -> Path | None:
    """The history file; None for memory, where state is in memory as well.

    Left at its default it goes with the state directory, unless a file of litellm-pulse stands there already.
    """
    if settings.db_path != DEFAULT_PATH or settings.db_path.exists():
        return settings.db_path
    return None if state is None else state / DEFAULT_PATH.name
