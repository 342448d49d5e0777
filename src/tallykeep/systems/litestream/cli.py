"""The commands of `tallykeep litestream`. What a command does is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tallykeep.runtime.deferred import deferred
from tallykeep.systems.litestream.inspect import add_ltx
from tallykeep.units import parse_duration, parse_timestamp

if TYPE_CHECKING:
    from tallykeep.systems.litestream.ltx.txid import Txid

    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_TARGETS = """
TARGET is s3://bucket/prefix?endpoint=URL (credentials from AWS_* or LITESTREAM_* variables), file:///path, the path
of a replica's folder, or the name of a target in tallykeep.yaml (--config).
"""
_STATUS = """
exit status:
  0  restorable, and nothing to say against it at this proof
  1  not restorable, or restorable with a reason: stale, or a corrupt file outside the restore plan
  2  wrong usage
  3  unknown: the replica could not be looked at, or not far enough
"""
_CHECK = f"""
Is the replica restorable? By names and sizes alone, in one listing; --deep reads and verifies every listed file;
--drill restores and lets SQLite examine the database as well. Litestream itself is not needed.
{_TARGETS}"""
_CHECK_EXAMPLES = f"""examples:
  tallykeep litestream check s3://backups/app
  tallykeep litestream check s3://backups/app --local /data/app.db --deep
  tallykeep litestream check /mnt/replica --drill --json
{_STATUS}"""
_EXPLAIN = f"""
Why is the replica restorable or not? Prints the restore plan file by file, and every gap with what follows from it.
{_TARGETS}"""
_DRILL = f"""
Restore into a scratch folder, examine the database with SQLite, ask it questions, compare it with the live database
(--local), and throw it away.
{_TARGETS}"""
_DRILL_EXAMPLES = """examples:
  tallykeep litestream drill s3://backups/app --assert 'SELECT count(*) > 0 FROM orders'
  tallykeep litestream drill app --config tallykeep.yaml --local /data/app.db

exit status:
  0  restored and sound
  1  failed: it cannot be restored, is not sound, differs from the live database, or an assertion does not hold
  2  wrong usage
  3  inconclusive: unreachable, files kept vanishing, no room, or a collation or module of the application is missing
"""
_RESTORE = f"""
Restore to the newest state, to a TXID or to a moment, byte for byte as `litestream restore` does. FILE must not be
there; it appears whole or not at all, and only if SQLite finds nothing wrong with it.
{_TARGETS}"""
_RESTORE_EXAMPLES = """examples:
  tallykeep litestream restore s3://backups/app -o /data/app.db
  tallykeep litestream restore /mnt/replica -o old.db --timestamp 2026-01-31T15:00:00Z
  tallykeep litestream restore /mnt/replica -o x.db --txid 00000000000003e8 --dry-run

exit status:
  0  restored
  1  it cannot be restored as asked, the database is malformed, or FILE is there already
  2  wrong usage
  3  the replica could not be read
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `parser`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_check(commands)
    _add_explain(commands)
    _add_drill(commands)
    _add_restore(commands)
    add_ltx(commands)


def _add_check(commands: SubParsers) -> None:
    parser = commands.add_parser("check", help="is the replica restorable?", description=_CHECK, epilog=_CHECK_EXAMPLES)
    _common(parser, "run_check")
    _local(parser)
    parser.add_argument("--deep", action="store_true", help="read and verify every listed file")
    parser.add_argument("--drill", action="store_true", help="restore and examine the database as well")
    _scratch(parser)


def _add_explain(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "explain", help="the restore plan file by file, and why", description=_EXPLAIN, epilog=_STATUS.strip()
    )
    _common(parser, "run_explain")
    _local(parser)


def _add_drill(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "drill", help="restore for practice, examine, throw away", description=_DRILL, epilog=_DRILL_EXAMPLES
    )
    _common(parser, "run_drill_command")
    _local(parser)
    parser.add_argument(
        "--assert", dest="assertions", action="append", metavar="SQL",
        help="a query whose first value must be 1; may be given several times",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="PRAGMA quick_check instead of integrity_check")
    parser.add_argument("--txid", type=_txid, help="restore to this TXID; the newest where it is not given")
    _scratch(parser)


def _add_restore(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "restore", help="restore a database from a replica", description=_RESTORE, epilog=_RESTORE_EXAMPLES
    )
    _common(parser, "run_restore")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the database to write")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--txid", type=_txid, help="restore to exactly this TXID (hex digits)")
    goal.add_argument(
        "--timestamp", type=_moment, metavar="TIME", help="restore to what was written before this (RFC 3339)"
    )
    parser.add_argument(
        "--integrity-check", choices=("none", "quick", "full"), default="quick",
        help="PRAGMA quick_check or integrity_check before FILE gets its name (default: quick)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the plan and restore nothing")


def _common(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("target", metavar="TARGET", help="a replica: URL, path, or the name of a configured target")
    parser.add_argument("--config", type=Path, metavar="FILE", help="tallykeep.yaml in which TARGET is named")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=deferred(f"tallykeep.systems.litestream.commands:{command}"))


def _local(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--local", type=Path, metavar="DIR",
        help="the live side: database file, .NAME-litestream or ltx folder, or the folder around it",
    )  # fmt: skip


def _scratch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where to restore to (default: the system's)")
    parser.add_argument(
        "--timeout", type=_duration, default=3600.0, metavar="TIME", help="give the drill up after this (default: 1h)"
    )


def _txid(text: str) -> Txid:
    from tallykeep.systems.litestream.ltx.txid import Txid

    try:
        return Txid.parse(text.lower().rjust(16, "0"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> float:
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
