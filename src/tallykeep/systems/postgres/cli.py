"""The commands of `tallykeep postgres`. What a command does is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tallykeep.runtime.deferred import deferred
from tallykeep.systems.postgres.drilling.cli import add_drill
from tallykeep.systems.postgres.opened.cli import add_open
from tallykeep.systems.postgres.restoring.commands import add_get_wal, add_restore

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_LONGEST = 128  # characters of a backup's name
_SETTINGS = """
Clusters, storage and key come from TALLYKEEP_POSTGRES_* variables or from the section postgres of a tallykeep.yaml.
A command works beside a running server, and without one.
"""
_STATUS = """
exit status:
  0    done; for a check: the answer is good
  1    not done; for a check: the answer is bad
  2    wrong usage, or settings that cannot be used
  3    no answer from PostgreSQL or from storage
  130  interrupted by Ctrl-C
"""
_SERVER = """
Protect every cluster of the settings until SIGTERM or Ctrl-C: receive its WAL, take base backups, copy both to object
storage, verify, hold drills, and serve /metrics. The same as `tallykeep run postgres`.
"""
_BACKUP = f"""
Take a base backup now, over the replication protocol. It is complete when the WAL that it needs is in tier 1, which a
running server receives, and when every byte has been read back.
{_SETTINGS}"""
_LIST = f"""
The base backups of each tier: what WAL makes of them, and what verification said.
{_SETTINGS}"""
_VERIFY = f"""
Read every byte of base backups and of the WAL that they need: hashes, seals, page checksums, PostgreSQL's own
manifest. Any byte that was changed is found and named.
{_SETTINGS}"""
_QUEUE = f"""
The queue between local disk and object storage. It is a hint and no more: what is missing in tier 2 is found by
comparing the two, and queued again. What failed too often waits here for `retry`.
{_SETTINGS}"""
_LOOK = f"""
Is everything protected? Whether WAL is streaming, what would be lost now, by tier, which moments can be recovered, the
last backup, verification and drill. Asks the primary and looks at the tiers itself; what cannot be told is unknown.
{_SETTINGS}"""
_KEY = """
Make an encryption key. With FILE it is written to a recovery file, which is never written over; name that file in
key_file, and keep a copy where the backups are not: without the key nobody can restore anything.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `parser`."""
    from tallykeep.systems.postgres.retention.commands import add_retention

    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_server(commands)
    _add_backup(commands)
    _add_list(commands)
    _add_verify(commands)
    add_restore(commands)
    add_get_wal(commands)
    add_open(commands)
    add_drill(commands)
    add_retention(commands)
    _add_queue(commands)
    _add_status(commands)
    _add_key(commands)


def _add_server(commands: SubParsers) -> None:
    parser = command(commands, "server", "protect the clusters until told to stop", _SERVER)
    _config(parser)
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="also: TALLYKEEP_LOG_LEVEL")
    parser.add_argument("--log-format", choices=("human", "json"), help="also: TALLYKEEP_LOG_FORMAT")
    parser.add_argument(
        "--take-over", action="append", default=[], metavar="CLUSTER",
        help="write to this cluster's tier 2 though another server did, which is gone for good; repeatable",
    )  # fmt: skip
    parser.set_defaults(run=_server)


def _server(args: argparse.Namespace) -> int:
    if args.take_over:
        calls("offload.commands:run_take_over")(args)
    status: int = args.run_systems(args, ["postgres"])
    return status


def _add_backup(commands: SubParsers) -> None:
    parser = command(commands, "backup", "take a base backup now", _BACKUP)
    common(parser, "commands:run_backup_command")
    parser.add_argument("--name", type=_backup_name, default="", help="what it is called (default: the time)")
    _quiet(parser)


def _backup_name(text: str) -> str:
    """It is shown in lists, so that it has to fit into a line."""
    if not text.isprintable() or len(text) > _LONGEST:
        raise argparse.ArgumentTypeError(f"a name has {_LONGEST} printable characters at most")
    return text


def _add_list(commands: SubParsers) -> None:
    parser = command(commands, "list", "the base backups of each tier", _LIST)
    common(parser, "listing:run_list")
    _tier(parser)


def _add_verify(commands: SubParsers) -> None:
    parser = command(commands, "verify", "read every byte of backups and prove them sound", _VERIFY)
    parser.add_argument("backups", nargs="*", metavar="BACKUP", help="ids or names (default: all)")
    common(parser, "commands:run_verify")
    _tier(parser)
    _quiet(parser)


def _add_queue(commands: SubParsers) -> None:
    parser = command(commands, "queue", "what waits to go to tier 2, and what could not", _QUEUE)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    status = command(inner, "status", "how much waits", _QUEUE)
    failed = command(inner, "list-failed", "what was given up, and why", _QUEUE)
    again = command(inner, "retry", "queue what was given up once more", _QUEUE)
    again.add_argument("ids", nargs="*", metavar="ID", help="as list-failed tells them (default: all)")
    for each, run in ((status, "run_status"), (failed, "run_list_failed"), (again, "run_retry")):
        common(each, f"queue_commands:{run}")


def _add_status(commands: SubParsers) -> None:
    parser = command(commands, "status", "is everything protected?", _LOOK)
    common(parser, "status:run_status")


def _add_key(commands: SubParsers) -> None:
    parser = command(commands, "key", "make an encryption key", _KEY)
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the recovery file (default, or -: print the key)"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.set_defaults(run=calls("commands:run_key"))


def command(
    commands: SubParsers, name: str, summary: str, description: str, epilog: str = _STATUS
) -> argparse.ArgumentParser:
    """A command with its help."""
    return commands.add_parser(
        name, help=summary, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def common(parser: argparse.ArgumentParser, run: str) -> None:
    """What every command takes; `run` is "module:function"."""
    _config(parser)
    parser.add_argument(
        "--cluster", action="append", default=[], metavar="NAME", help="only this cluster; repeatable (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.set_defaults(run=calls(run))


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="tallykeep.yaml to read (also: TALLYKEEP_CONFIG; none by default)"
    )


def _tier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tier", choices=("1", "2"), help="only this tier (default: both)")


def _quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def calls(where: str) -> Callable[[argparse.Namespace], int]:
    """What imports "module:function" of this system and calls it."""
    return deferred(f"tallykeep.systems.postgres.{where}")
