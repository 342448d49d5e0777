"""`tallykeep config`: which settings hold, and whether they can be used."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from tallykeep.cli.sections import TELEMETRY, add_config_option, load_config
from tallykeep.config.load import PROGRAM, Config
from tallykeep.errors import ConfigError
from tallykeep.systems import System, all_systems
from tallykeep.telemetry.destination import check as check_telemetry


def add(parser: argparse.ArgumentParser) -> None:
    """Say what this command takes."""
    parser.description = (
        "Settings come from the environment and from tallykeep.yaml; docs/reference/settings.md lists them."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="config_command")
    show = commands.add_parser("show", help="every setting, its value and where it came from; secrets are masked")
    show.add_argument("--set", action="store_true", help="leave out what has its default")
    show.add_argument("--json", action="store_true", help="print one JSON array")
    show.set_defaults(run=run_show)
    validate = commands.add_parser("validate", help="find every mistake without starting anything; status 2 if any")
    validate.set_defaults(run=run_validate)
    for command in (show, validate):
        add_config_option(command)


def run(args: argparse.Namespace) -> int:
    """Never called: a sub-command is required."""
    raise AssertionError(args)


def run_show(args: argparse.Namespace) -> int:
    """Print settings as key, value and origin.

    Raises: ConfigError with every mistake.
    """
    entries = [entry for entry in load_config(args.config).entries if not (args.set and entry.origin == "default")]
    if args.json:
        print(json.dumps([entry._asdict() for entry in entries], indent=2))
        return 0
    key_width = max((len(entry.key) for entry in entries), default=0)
    value_width = min(max((len(entry.value) for entry in entries), default=0), 60)
    for entry in entries:
        print(f"{entry.key:{key_width}}  {entry.value:{value_width}}  {entry.origin}")
    return 0


def run_validate(args: argparse.Namespace) -> int:
    """Say what would run with these settings.

    Raises: ConfigError with every mistake.
    """
    config = load_config(args.config)
    web_config_file = config.section(PROGRAM).web_config_file
    if web_config_file is not None:
        from tallykeep.web.webconfig import read_web_config

        read_web_config(web_config_file)
    for warning in config.warnings:
        print(f"tallykeep: warning: {warning}", file=sys.stderr)
    found = [system for system in all_systems() if system.enabled(config.section(system.name))]
    _check(found, config)
    enabled = [system.name for system in found]
    given = sum(entry.origin != "default" for entry in config.entries)
    print(
        f"ok: {given} settings given; `tallykeep run` would run {', '.join(enabled) or 'nothing: no system is set up'}"
    )
    return 0


def _check(systems: Iterable[System], config: Config) -> None:
    """What the settings lead to: files they name, addresses in them. Raises: ConfigError with every mistake."""
    checks: list[tuple[Callable[[Any], None], str]] = [(check_telemetry, TELEMETRY)]
    for system in systems:
        module, _, name = system.check.partition(":")
        if module:
            checks.append((getattr(import_module(module), name), system.name))
    problems: list[str] = []
    for check, section in checks:
        try:
            check(config.section(section))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
