"""`tallykeep run`: puts every system that is set up to work and serves its metrics until it is told to stop.

The order of a start: settings, state, systems, verdicts announced as unknown, listener, first collections. So a
scrape that comes first finds every verdict on the page, and a slow remote never keeps the listener waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from typing import cast

from tallykeep import __version__
from tallykeep.cli.api import Opened, serve_api
from tallykeep.cli.keeping import keep_families
from tallykeep.cli.metrics import groups
from tallykeep.cli.parsers import listed
from tallykeep.cli.sections import HISTORY, TELEMETRY, add_config_option, load_config
from tallykeep.cli.telemetry import serve_prometheus
from tallykeep.clock import SystemClock
from tallykeep.config.load import PROGRAM, Config, variables_of
from tallykeep.config.program import ProgramSettings
from tallykeep.errors import ConfigError, StoreError
from tallykeep.metrics import Book, Catalogue
from tallykeep.runtime import families
from tallykeep.runtime import logging as logs
from tallykeep.runtime.board import Board
from tallykeep.runtime.collecting import collect_rarely
from tallykeep.runtime.health import Health
from tallykeep.runtime.runner import Runner
from tallykeep.runtime.signals import leave_within, stop_requested
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.supervisor import GRACE, Supervisor, stop_tasks
from tallykeep.runtime.work import Service
from tallykeep.systems import System, Tools, all_systems
from tallykeep.systems.system import Opener
from tallykeep.telemetry.work import start_telemetry
from tallykeep.web.app import MetricsApp
from tallykeep.web.listener import Listener
from tallykeep.web.live import LiveWebConfig

LAST_RESORT = 3 * GRACE  # seconds after which a stop that hangs is cut short

_log = logging.getLogger("tallykeep")

_DESCRIPTION = """\
Watches what the settings describe and serves /metrics, /healthz, /readyz and /status. SIGTERM or Ctrl-C stops it
cleanly; a second one at once. Named systems run whether or not the settings ask for them.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Say what this command takes."""
    parser.description = _DESCRIPTION
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="run just these: " + listed(_names()))
    add_config_option(parser)
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="also: TALLYKEEP_LOG_LEVEL")
    parser.add_argument("--log-format", choices=("human", "json"), help="also: TALLYKEEP_LOG_FORMAT")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C.

    Raises: ConfigError for settings that cannot be used, and where there is nothing to do.
    """
    config = load_config(args.config)
    program: ProgramSettings = config.section(PROGRAM)
    logs.configure(args.log_level or program.log_level, args.log_format or program.log_format)
    systems = chosen(args.systems, config)
    for warning in config.warnings:
        _log.warning("%s", warning)
    asyncio.run(_serve(program, config, systems))
    return 0


def chosen(names: Sequence[str], config: Config) -> tuple[System, ...]:
    """The systems named, or all that the settings ask for.

    Raises: ConfigError for an unknown name, and where nothing is asked for.
    """
    known = {system.name: system for system in _runnable()}
    for name in names:
        if name not in known and name in {system.name for system in all_systems()}:
            raise ConfigError(f"{name} is not watched but has commands of its own: tallykeep {name} --help")
        if name not in known:
            raise ConfigError(f"there is no system {name!r}, only {listed(known)}")
    found = tuple(s for s in known.values() if (s.name in names if names else _asked_for(s, config)))
    if not found:
        raise ConfigError(f"nothing to do: {listed(_ways(known.values()))}; or describe targets in tallykeep.yaml")
    return found


def _asked_for(system: System, config: Config) -> bool:
    return system.enabled(config.section(system.name)) or (system.any_setting_asks and config.mentions(system.name))


def _ways(systems: Iterable[System]) -> Iterator[str]:
    for system in systems:
        switches = [name for name, field in variables_of(system.settings) if field.switch]
        if switches:
            yield f"set {' or '.join(switches)} for {system.name}"


def _runnable() -> list[System]:
    return [system for system in all_systems() if system.open]


def _names() -> list[str]:
    return [system.name for system in _runnable()]


async def _serve(program: ProgramSettings, config: Config, systems: Sequence[System]) -> None:
    """Everything, from the state directory to the end of the last task."""
    stop = stop_requested()
    book, clock, health = Book(), SystemClock(), Health()
    catalogue = Catalogue(family for group in groups(systems).values() for family in group)
    board = Board(catalogue, book, clock)
    runner, supervisor = Runner(board, book, clock, health), Supervisor(book, clock)
    async with AsyncExitStack() as stack:
        state = open_state(program, systems)
        stack.callback(state.close)
        _describe(book, state)
        telemetry = await start_telemetry(stack, config.section(TELEMETRY), board, book, clock)
        runner.add(telemetry.collectors)
        services: list[Service] = [*telemetry.services]
        opened: list[Opened] = []
        for system in systems:
            tools = Tools(clock, book, state)
            parts = await stack.enter_async_context(_opener(system)(config.section(system.name), tools))
            runner.add(parts.collectors)
            services.extend(parts.services)
            for work in parts.derived:
                board.derive(work)
            opened.append(Opened(system, config.section(system.name), parts.desk))
        web = _web_config(program, book, clock)
        app = MetricsApp(board, book, clock, health)
        await _listen(stack, program, app, health, web)
        await serve_prometheus(stack, config.section(TELEMETRY), app, health, web)
        kept = await keep_families(stack, config.section(HISTORY), board, state, clock)
        services.extend(kept.services)
        await serve_api(stack, program, opened, health, web, kept.histories)
        stack.push_async_callback(supervisor.stop)
        collect_rarely()
        supervisor.start(services)
        collecting = asyncio.create_task(runner.run(), name="runner")
        stack.push_async_callback(stop_tasks, [collecting])
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait((collecting, stopping), return_when=asyncio.FIRST_COMPLETED)
        leave_within(LAST_RESORT, 0 if stop.is_set() else 1)
        stopping.cancel()
        if collecting.done():  # the runner ends by itself only through a defect
            _log.error("collecting has ended: a defect", exc_info=collecting.exception())
            collecting.result()


def _web_config(program: ProgramSettings, book: Book, clock: SystemClock) -> LiveWebConfig | None:
    return LiveWebConfig(program.web_config_file, book, clock) if program.web_config_file is not None else None


async def _listen(
    stack: AsyncExitStack, program: ProgramSettings, app: MetricsApp, health: Health, web: LiveWebConfig | None
) -> None:
    listener = Listener(app, program.metrics_host, program.metrics_port, setting="METRICS_PORT", web=web)
    health.expect("the metrics listener")
    await listener.start()
    stack.push_async_callback(listener.stop)
    health.report("the metrics listener")
    _log.info("metrics are at %smetrics", listener.url, extra={"url": f"{listener.url}metrics"})


def open_state(program: ProgramSettings, systems: Sequence[System]) -> StateDirectory:
    """The state directory; in memory where it cannot be written and every system only watches.

    Sidecars run with a read-only root, and a watcher that does not start is worse than one that forgets.

    Raises: ConfigError where another process holds it; StoreError where a system needs it.
    """
    try:
        state = StateDirectory.open(program.state_dir)
    except StoreError as error:
        if any(system.needs_state for system in systems):
            raise
        _log.warning("%s. Going on with state in memory: a restart forgets it", error)
        return StateDirectory.in_memory()
    _log.info("state is kept in %s", state.path, extra={"state_dir": str(state.path)})
    return state


def _describe(book: Book, state: StateDirectory) -> None:
    book.set(families.BUILD_INFO, 1, version=__version__, python=platform.python_version())
    book.set(families.STATE_CREATED, state.created)
    book.set(families.STATE_PERSISTENT, float(state.persistent))


def _opener(system: System) -> Opener:
    module, _, name = system.open.partition(":")
    return cast(Opener, getattr(import_module(module), name))
