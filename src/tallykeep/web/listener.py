"""A listener: one port, one application, uvicorn inside the event loop of the program.

Several listeners share the loop. uvicorn is imported when the first one starts, installs no signal handlers,
configures no logging and wakes once a second. h11 is enough for scrapes; httptools and uvloop would cost memory
for requests per second nobody asks for.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING

from tallykeep.errors import ConfigError
from tallykeep.web.asgi import App
from tallykeep.web.guard import Guard
from tallykeep.web.live import LiveWebConfig

if TYPE_CHECKING:
    from uvicorn import Server

_KEEP_ALIVE = 75  # seconds: longer than a scrape interval, so that TLS is negotiated once
_LAST_WORDS = 2  # seconds that replies still being sent are given at the end
_BACKLOG = 128

_log = logging.getLogger(__name__)


class Listener:
    """Serves `app` on `host` and `port`; port 0 takes a free one. `setting` names the port in messages."""

    def __init__(self, app: App, host: str, port: int, *, setting: str, web: LiveWebConfig | None = None) -> None:
        self._app = app if web is None else Guard(app, lambda: web.current)
        self._host = host
        self._setting = setting
        self._web = web
        self._port = port
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port in use: after `start` the one that was bound."""
        return self._port

    @property
    def url(self) -> str:
        """Where it can be reached from this machine, with a slash at the end."""
        scheme = "https" if self._web is not None and self._web.context is not None else "http"
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)  # noqa: S104
        return f"{scheme}://{f'[{host}]' if ':' in host and host[0] != '[' else host}:{self._port}/"

    async def start(self) -> None:
        """Return once connections are accepted. Raises: ConfigError where the port cannot be had."""
        bound = _bind(self._host, self._port, self._setting)
        self._port = bound.getsockname()[1]
        self._server = _make_server(self._app, self._web)
        await self._server.on_tick(0)
        await self._server.startup(sockets=[bound])
        self._tasks.append(asyncio.create_task(_tick(self._server), name=f"listener-{self._port}"))
        if self._web is not None:
            self._tasks.append(asyncio.create_task(self._web.watch(), name=f"web-config-{self._port}"))
        _log.info("serving %s", self.url)

    async def stop(self) -> None:
        """Refuse new connections, let replies being sent end, close the rest. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        server, self._server = self._server, None
        if server is not None:
            await server.shutdown()


def _bind(host: str, port: int, setting: str) -> socket.socket:
    """A bound socket. Raises: ConfigError."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"cannot listen on {host!r}: {error.strerror}; change the address beside {setting}") from None
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
        bound.listen(_BACKLOG)  # now rather than in uvicorn, so that a port in use is found here
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise ConfigError(_refusal(error, host, port, setting)) from None
    return bound


def _refusal(error: OSError, host: str, port: int, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use on {host or 'this machine'}; stop what listens there, or change {setting}"
    if error.errno == errno.EACCES:
        return f"port {port} may not be opened by this user; change {setting} to one above 1023"
    return f"cannot listen on {host} port {port}: {error.strerror}; change {setting}"


def _make_server(app: App, web: LiveWebConfig | None) -> Server:
    from uvicorn import Config, Server

    context = web.context if web is not None else None
    config = Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",  # that it starts and stops is logged here
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_LAST_WORDS,
        ssl_context_factory=(lambda config, default: context) if context is not None else None,
    )
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    return server


async def _tick(server: Server) -> None:
    """Keep the Date header right. uvicorn's own loop does it too, waking ten times as often."""
    while True:
        await server.on_tick(0)
        await asyncio.sleep(1.0)
