"""Pulse at work: the history from its file, a follower for each target, one collector, and the desk of the API.

The HTTP client is an extra of the installation, so nothing here is imported before pulse is to run.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from tallykeep.errors import ConfigError
from tallykeep.history.service import History
from tallykeep.runtime.work import Parts
from tallykeep.systems.pulse.desk import Desk
from tallykeep.systems.pulse.digest import Follower
from tallykeep.systems.pulse.settings import PulseSettings, history_path
from tallykeep.systems.pulse.tracked import GAUGES
from tallykeep.systems.system import Tools

NOT_INSTALLED = "pulse: its HTTP client is not installed: pip install 'tallykeep[pulse]'"
_DAY = 86400.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_pulse(settings: PulseSettings, tools: Tools) -> AsyncIterator[Parts]:
    """The work that scrapes every target. Raises: ConfigError."""
    try:
        from tallykeep.systems.pulse.collector import PulseCollector
        from tallykeep.systems.pulse.scrape import Client
    except ImportError as error:
        raise ConfigError(f"{NOT_INSTALLED} ({error})") from error
    for name in ("tallykeep.systems.pulse", "tallykeep.history"):
        logging.getLogger(name).setLevel(settings.log_level.upper())
    _warn(settings)
    zone = settings.zone
    async with AsyncExitStack() as stack:
        names = dict(settings.metrics.items())
        history = await History.open(
            history_path(settings, tools.state.path), zone=zone, clock=tools.clock, names=names, gauges=GAUGES,
            retention=settings.retention_days * _DAY, ring=settings.history_size,
        )  # fmt: skip
        history.name = "pulse-history"
        stack.push_async_callback(history.close)
        followers = [Follower(page.name, names, partial(history.deltas, page.name)) for page in settings.pages]
        desk = Desk(followers, ", ".join(page.shown for page in settings.pages), zone, history, tools.clock)
        await desk.resume()
        client = Client(timeout=settings.timeout, limit=settings.page_limit, verify=settings.verify_ssl)
        stack.push_async_callback(client.close)
        collector = PulseCollector(
            settings.pages, followers, client, desk,
            interval=settings.interval, timeout=settings.timeout, clock=tools.clock, book=tools.book,
        )  # fmt: skip
        stack.push_async_callback(collector.settled)
        yield Parts(collectors=[collector], desk=desk, services=[history])


def _warn(settings: PulseSettings) -> None:
    if not settings.verify_ssl and any(page.url.startswith("https:") for page in settings.pages):
        _log.warning(
            "certificates of https targets are not verified: whoever stands in between can read the key. "
            "Set LITELLM_PULSE_VERIFY_SSL=true"
        )
