"""`tallykeep metrics`: the catalogue, on the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping

from tallykeep.config.sources import did_you_mean
from tallykeep.errors import ConfigError
from tallykeep.exposition.json import Json, family_as_json
from tallykeep.metrics import Alert, Family
from tallykeep.runtime import families as runtime_families
from tallykeep.systems import System, all_systems
from tallykeep.telemetry import families as telemetry_families
from tallykeep.web import families as web_families

SELF = "tallykeep"


def add(parser: argparse.ArgumentParser) -> None:
    """Say what this command takes."""
    parser.description = "The metric families that tallykeep can show, with labels, states and alert rules."
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="metrics_command")
    every = commands.add_parser("list", help="one line a family")
    every.add_argument(
        "--system",
        choices=tuple(groups()),
        metavar="SYSTEM",
        help=f"only those of one system, or of {SELF} itself",
    )
    every.add_argument("--json", action="store_true", help="print one JSON array")
    every.set_defaults(run=run_list)
    one = commands.add_parser("show", help="everything about one family")
    one.add_argument("name", metavar="NAME", help="the exact name, such as tallykeep_collector_up")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    one.set_defaults(run=run_show)


def run(args: argparse.Namespace) -> int:
    """Never called: a sub-command is required."""
    raise AssertionError(args)


def groups(systems: Iterable[System] | None = None) -> Mapping[str, tuple[Family, ...]]:
    """What tallykeep says of itself, then the families of each system (of all where none are named)."""
    found = {SELF: (*runtime_families.FAMILIES, *web_families.FAMILIES, *telemetry_families.FAMILIES)}
    return found | {system.name: system.families for system in (all_systems() if systems is None else systems)}


def run_list(args: argparse.Namespace) -> int:
    """Print the families of all systems, or of one."""
    chosen = {name: found for name, found in groups().items() if args.system in (None, name)}
    if args.json:
        print(json.dumps([_as_json(name, family) for name, found in chosen.items() for family in found], indent=2))
        return 0
    width = max(len(family.name) for found in chosen.values() for family in found)
    for found in chosen.values():
        for family in found:
            print(f"{family.name:{width}}  {family.kind.value:9}  {family.help}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print one family.

    Raises: ConfigError for a name that no family has.
    """
    known = {
        name: (system, family)
        for system, found in groups().items()
        for family in found
        for name in (family.name, family.otel)
        if name
    }
    if args.name not in known:
        hint = did_you_mean(args.name, known) or "; `tallykeep metrics list` shows all"
        raise ConfigError(f"{args.name} is not a metric family{hint}")
    system, family = known[args.name]
    if args.json:
        print(json.dumps(_as_json(system, family), indent=2))
    else:
        print("\n".join(_lines(system, family)))
    return 0


def _lines(system: str, family: Family) -> list[str]:
    facts = {
        "system": system,
        "type": family.kind.value,
        "unit": family.unit.suffix.rpartition("_")[2],
        "sent as": family.otel,
        "labels": ", ".join(family.labels),
        "states": ", ".join(family.states),
        "buckets": ", ".join(f"{bound:g}" for bound in family.buckets),
        "name": f"published before today's rules: {family.legacy}" if family.legacy else "",
    }
    lines = [family.name, f"  {family.help}", ""]
    lines += [f"  {key:8} {text}" for key, text in facts.items() if text]
    for alert in family.alerts:
        lines += ["", f"  alert {alert.title} ({alert.severity}, after {alert.hold})"]
        lines += [f"    {_expression(family, alert)}", f"    {alert.summary}"]
    return lines


def _as_json(system: str, family: Family) -> dict[str, Json]:
    alerts: list[Json] = [
        {
            "title": alert.title,
            "expr": _expression(family, alert),
            "for": alert.hold,
            "severity": alert.severity,
            "summary": alert.summary,
        }
        for alert in family.alerts
    ]
    shape: dict[str, Json] = {
        "states": list(family.states),
        "buckets": list(family.buckets),
        "otel": family.otel,
    }
    return {"system": system, **family_as_json(family), **shape, "alerts": alerts}


def _expression(family: Family, alert: Alert) -> str:
    return alert.expr.replace("{n}", family.name)
