"""The commands of `tallykeep litellm`. What a command does is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tallykeep.runtime.deferred import deferred
from tallykeep.units import parse_duration

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

T = TypeVar("T")
BY = ("team", "user", "key", "model", "tag", "organization")
_WHERE = """
The database is that of the settings: LITELLM_DB_* or LITELLM_DATABASE_URL, or tallykeep.yaml (--config). It is only
ever read.
"""
_CHECK = f"""
Can the database be read, what does its schema offer, is LiteLLM still writing, and what does tallykeep keep of it?
{_WHERE}"""
_CHECK_EXAMPLES = """examples:
  LITELLM_DB_HOST=db.example.com LITELLM_DB_PASSWORD_FILE=/run/secrets/db tallykeep litellm check
  tallykeep litellm check --config tallykeep.yaml --database eu --json

exit status:
  0  fine
  1  something is wrong: tables that may not be read, no recent row, clocks apart, a ledger that does not read
  2  wrong usage, or settings that cannot be used
  3  the database could not be reached
"""
_RECONCILE = f"""
Do the rows of the spend log add up to the `spend` columns that LiteLLM keeps with its keys, users, teams,
organizations, members and customers? Compared is everybody whose running budget cycle, or whole life, lies within
the log. LiteLLM writes the two accounts some seconds apart, so differences are looked at twice.
{_WHERE}"""
_RECONCILE_EXAMPLES = """examples:
  tallykeep litellm reconcile
  tallykeep litellm reconcile --top 50 --json

exit status:
  0  equal, within a cent each
  1  there are differences
  2  wrong usage, or settings that cannot be used
  3  the database could not be reached, or nobody could be compared
"""
_REPORT = f"""
What a month cost, and who spent it, exactly and straight from the rows of the spend log, in your time zone. It is read
a day at a time, so that no statement is long.
{_WHERE}"""
_REPORT_EXAMPLES = """examples:
  tallykeep litellm report --month 2026-01 --by team
  tallykeep litellm report --month 2026-01 --by key --csv > january.csv
  tallykeep litellm report --month 2026-01 --by model --top 10 --timezone America/New_York

exit status:
  0  it was done; a month that is not over, or of which the log may lack the beginning, is said in a note
  2  wrong usage, or settings that cannot be used
  3  the database could not be reached
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `parser`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_check(commands)
    _add_reconcile(commands)
    _add_report(commands)


def _add_check(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "check", help="can it be read, and is it current?", description=_CHECK, epilog=_CHECK_EXAMPLES
    )
    _common(parser, "run_check")
    parser.add_argument(
        "--max-age", type=_duration, default=3600.0, metavar="TIME",
        help="how old the newest request may be (default: 1h; 0: any age)",
    )  # fmt: skip


def _add_reconcile(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "reconcile", help="the rows against LiteLLM's own spend columns", description=_RECONCILE,
        epilog=_RECONCILE_EXAMPLES,
    )  # fmt: skip
    _common(parser, "run_reconcile")
    parser.add_argument("--top", type=_count, default=20, metavar="N", help="differences to print (default: 20)")
    parser.add_argument(
        "--patience", type=_duration, default=15.0, metavar="TIME",
        help="differences are looked at again after this; 0 looks once (default: 15s)",
    )  # fmt: skip


def _add_report(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "report", help="what a month cost, and who spent it", description=_REPORT, epilog=_REPORT_EXAMPLES
    )
    parser.add_argument("--month", type=_month, required=True, metavar="YYYY-MM", help="the month")
    parser.add_argument("--by", choices=BY, required=True, help="a line for each of these")
    _common(parser, "run_report")
    parser.add_argument("--csv", action="store_true", help="print comma-separated values, without the total")
    parser.add_argument(
        "--timezone", metavar="ZONE",
        help="time zone of the month, such as Europe/Berlin (default: TZ, or this machine's)",
    )  # fmt: skip
    parser.add_argument("--top", type=_count, metavar="N", help="the N dearest, and all others as one line")


def _common(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="tallykeep.yaml that describes the database")
    parser.add_argument("--database", metavar="NAME", help="which one, where several are configured")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=deferred(f"tallykeep.systems.litellm.commands:{command}"))


def _month(text: str) -> tuple[int, int]:
    from tallykeep.systems.litellm.months import parse_month

    return _argument(parse_month, text)


def _duration(text: str) -> float:
    return _argument(parse_duration, text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _argument(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
