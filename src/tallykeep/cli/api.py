"""The second listener of `tallykeep run`: the routes of the systems that run, for people and programs.

It is there where a system that runs has routes, or where TALLYKEEP_WEB_PORT asks for it. FastAPI is imported in a
thread of its own, so that /metrics answers meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any, NamedTuple

from tallykeep.config.program import ProgramSettings
from tallykeep.errors import ConfigError
from tallykeep.runtime.health import Health
from tallykeep.runtime.threads import in_thread
from tallykeep.systems import System
from tallykeep.systems.system import Web
from tallykeep.web.asgi import App
from tallykeep.web.listener import Listener
from tallykeep.web.live import LiveWebConfig

NOT_INSTALLED = "the JSON API needs FastAPI, which is not installed: pip install 'tallykeep[pulse]'"
_PART = "the web listener"

_log = logging.getLogger("tallykeep")


class Opened(NamedTuple):
    """A system at work."""

    system: System
    settings: Any
    desk: Any  # what its routes answer from


async def serve_api(
    stack: AsyncExitStack, program: ProgramSettings, opened: Sequence[Opened], health: Health,
    config: LiveWebConfig | None, histories: Sequence[Any] = (),
) -> None:  # fmt: skip
    """Serve, until `stack` ends, what the systems have routes for; nothing where there is nothing.

    Raises: ConfigError where the port cannot be had, or two settings contradict one another.
    """
    place = _place(program, opened)
    if place is None:
        return
    if place.token and config is not None and config.current.users:
        raise ConfigError(
            "the API is to ask for its own token and for the users of web.config.yml, and a client can send only one "
            "of them: leave one out"
        )
    health.expect(_PART)
    try:
        app = await in_thread(_app, opened, histories, place)
    except ImportError as error:
        raise ConfigError(f"{NOT_INSTALLED} ({error})") from error
    listener = Listener(app, place.host, place.port, setting=place.setting, web=config)
    await listener.start()
    stack.push_async_callback(listener.stop)
    health.report(_PART)
    _log.info("the API is at %s", listener.url, extra={"url": listener.url})


def _place(program: ProgramSettings, opened: Sequence[Opened]) -> Web | None:
    """Where to serve: the first system with a wish, the program's own settings over it."""
    wishes = [one.system.web(one.settings) for one in opened if one.system.routes and one.system.web is not None]
    if not wishes:
        if program.web_port is None:
            return None
        return Web(program.web_host, program.web_port, "TALLYKEEP_WEB_PORT")
    wish = wishes[0]
    if program.web_port is not None:
        wish = wish._replace(port=program.web_port, setting="TALLYKEEP_WEB_PORT")
    return wish._replace(host=program.web_host or wish.host)


def _app(opened: Sequence[Opened], histories: Sequence[Any], place: Web) -> App:
    from tallykeep.web.api import api

    with_routes = [one for one in opened if one.system.routes]
    routers = [_loaded(one.system.routes)(one.desk) for one in with_routes]
    told = [(one.system.name, one.desk) for one in with_routes]
    readable = [*(one.desk for one in with_routes), *histories]
    return api(routers, readable, told, token=place.token.reveal(), origins=place.origins)


def _loaded(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
