"""The program's own settings: the keys at the top of tallykeep.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tallykeep.config.model import setting
from tallykeep.config.parse import PATH, PORT, one_of


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """Where state is kept, where metrics are served, what is logged."""

    state_dir: Path = setting(
        "./data",
        env="TALLYKEEP_STATE_DIR",
        parse=PATH,
        help="Folder of what outlives a restart, used by one process at a time. Watching systems go on without it "
        "(with a warning and `tallykeep_state_persistent` 0) where it cannot be written.",
    )
    metrics_port: int = setting(
        "9090",
        env="METRICS_PORT",
        parse=PORT,
        help="Port of /metrics, /healthz, /readyz and /status. 0 takes a free one and logs it.",
    )
    metrics_host: str = setting(
        "0.0.0.0",  # noqa: S104 - a scrape target is meant to be reached
        env="TALLYKEEP_METRICS_HOST",
        help="Address on which metrics are served. `::` serves IPv6 and IPv4, 127.0.0.1 this machine alone.",
    )
    web_port: int | None = setting(
        None,
        env="TALLYKEEP_WEB_PORT",
        parse=PORT,
        help="Port of the JSON API, in place of the one a system asks for (8000 of pulse). Without either no API is "
        "served. 0 takes a free one and logs it.",
    )
    web_host: str = setting(
        "",
        env="TALLYKEEP_WEB_HOST",
        help="Address on which the JSON API is served: that of the system that asks for it, else every one.",
    )
    web_config_file: Path | None = setting(
        None,
        env="TALLYKEEP_WEB_CONFIG_FILE",
        parse=PATH,
        help="web.config.yml as Prometheus exporters read it: TLS, client certificates, users. Changes are taken "
        "over without a restart.",
    )
    log_level: str = setting(
        "info",
        env="TALLYKEEP_LOG_LEVEL",
        parse=one_of("debug", "info", "warning", "error"),
        help="The least severe messages that are logged.",
    )
    log_format: str = setting(
        "human",
        env="TALLYKEEP_LOG_FORMAT",
        parse=one_of("human", "json"),
        help="Lines for people, or one JSON object a line.",
    )
