"""`tallykeep pulse show`: the figures of today, this week and this month on a terminal.

From the running API; where none answers, from the history file. The HTTP client of the standard library is enough,
and starts in a fraction of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tallykeep.config.load import PROGRAM, Config
from tallykeep.config.program import ProgramSettings
from tallykeep.errors import ConfigError, Malformed, Refused, StoreError, Unreachable
from tallykeep.exposition.json import Json, number_as_json
from tallykeep.history.peek import peek
from tallykeep.history.periods import Period
from tallykeep.systems.pulse.settings import URL, PulseSettings, history_path
from tallykeep.systems.pulse.tracked import COUNTERS, GAUGES, NAMES

_TIMEOUT = 10.0  # seconds
_LARGEST = 1 << 20  # bytes of an answer
_FAILED = 1
_PERIODS = (("today", "daily"), ("week", "weekly"), ("month", "monthly"), ("in all", "lifetime"))

Summary = Mapping[str, Json]


def run_show(args: argparse.Namespace) -> int:
    """Print the figures. Raises: ConfigError, SourceError, StoreError."""
    config: Config = args.load_config(args.config)
    settings: PulseSettings = config.section("pulse")
    told = _asked(_checked(args.url), settings) if args.url else _found(settings, config.section(PROGRAM))
    if args.json:
        sys.stdout.write(json.dumps(dict(told), indent=2 if sys.stdout.isatty() else None) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(told))
    return _FAILED if told.get("error") else 0


def _checked(url: str) -> str:
    try:
        return URL(url)
    except ValueError as error:
        raise ConfigError(f"--url: {error}: give {URL.allowed.replace('/metrics/', '')}") from None


def _found(settings: PulseSettings, program: ProgramSettings) -> Summary:
    """From the API where the settings say it is, else from the history file."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    scheme = "http" if program.web_config_file is None else "https"
    try:
        return _asked(f"{scheme}://{host}:{program.web_port or settings.port}", settings)
    except (Unreachable, Malformed) as error:
        try:
            return _peeked(settings, program)
        except StoreError as other:
            raise Unreachable(f"{error}, and {other}; name it with --url") from None


def _asked(url: str, settings: PulseSettings) -> Summary:
    request = Request(f"{url.rstrip('/')}/api/v1/metrics", headers={"Accept": "application/json"})  # noqa: S310
    if settings.api_token:
        request.add_header("Authorization", f"Bearer {settings.api_token.reveal()}")
    try:
        with urlopen(request, timeout=_TIMEOUT) as reply:  # noqa: S310 - http and https alone, by URL and _found
            told = json.loads(reply.read(_LARGEST))
    except HTTPError as error:
        error.close()
        hint = ": it asks for a token, see LITELLM_PULSE_API_TOKEN" if error.code == 401 else ""
        raise Refused(f"{url} answered {error.code}{hint}") from None
    except (OSError, HTTPException) as error:
        raise Unreachable(f"no tallykeep answers at {url} ({getattr(error, 'reason', None) or error})") from None
    except ValueError:
        raise Malformed(f"{url} does not answer with JSON: is it tallykeep?") from None
    if not isinstance(told, dict) or "cost" not in told:
        raise Malformed(f"{url} answers, but not as pulse")
    return told


def _peeked(settings: PulseSettings, program: ProgramSettings) -> Summary:
    state = program.state_dir if program.state_dir.exists() else None
    path = history_path(settings, state) or Path(os.devnull)
    zone = settings.zone
    seen = peek(path, zone, time.time(), GAUGES)
    told: dict[str, Json] = {name: number_as_json(seen.values.get(name, 0.0)) for name in NAMES}
    for period in Period:
        window = seen.windows[period]
        told |= {f"{name}_{period.value}": number_as_json(window.get(name, 0.0)) for name in NAMES}
    told |= {f"{name}_lifetime": number_as_json(seen.lifetimes.get(name, 0.0)) for name in COUNTERS}
    moment = None if seen.moment is None else datetime.fromtimestamp(seen.moment, zone).isoformat(timespec="seconds")
    return told | {"last_scrape": moment, "source": seen.source, "file": str(path)}


def _lines(told: Summary) -> Iterator[str]:
    yield f"{'':20}" + "".join(f"{head:>16}" for head, _ in _PERIODS)
    for name in NAMES:
        cells = (_shown(name, told.get(f"{name}_{period}")) for _, period in _PERIODS)
        yield f"{name.replace('_', ' '):20}" + "".join(f"{cell:>16}" for cell in cells)
    yield ""
    yield f"last scrape  {told.get('last_scrape') or 'none yet'}  of {_printable(told.get('source'))}"
    if "file" in told:
        yield f"from         {_printable(told['file'])}: no running tallykeep answers"
    if told.get("error"):
        yield f"error        {_printable(told['error'])}"


def _shown(name: str, value: Json | None) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"${value:,.4f}" if name == "cost" else f"{value:,.0f}"


def _printable(text: Json | None) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text or ""))
