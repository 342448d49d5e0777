"""`tallykeep postgres restore` and `get-wal` on the command line. What they do is imported when they run."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tallykeep.runtime.deferred import deferred
from tallykeep.units import parse_timestamp

if TYPE_CHECKING:
    from tallykeep.systems.postgres.lsn import LSN
    from tallykeep.systems.postgres.restoring.getwal import Planned

    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_RESTORE = """
Restore a base backup into an empty directory, with the settings by which PostgreSQL recovers when it is started: to
the end of WAL, or to a moment. WAL is then fetched by `tallykeep postgres get-wal`, as PostgreSQL's own user, who must
be able to read what it takes: settings, key, and tier 1 or the credentials of tier 2.

The newest backup that had ended before the target is taken, from tier 1 where that holds it, else from tier 2; what is
damaged in one comes from the other. A restore that was interrupted is begun again by the same command, and keeps what
is there. On a machine that has nothing but the bucket and the key:

  tallykeep postgres restore --cluster main --tier2 s3://bucket/prefix --key-file recovery.key --to DIR
"""
_EXAMPLES = """examples:
  tallykeep postgres restore --to /var/lib/postgresql/17/main
  tallykeep postgres restore --to DIR --time 2026-11-30T09:59:00+01:00 --target-action pause
  tallykeep postgres restore --to DIR --name before_migration --dry-run

exit status:
  0    restored
  1    it cannot be restored as asked, or DIR is not empty, or bytes are damaged in every tier
  2    wrong usage, or settings that cannot be used
  3    no answer from storage
  130  interrupted by Ctrl-C
"""
_GET_WAL = """
What PostgreSQL's restore_command runs: write the WAL file of that name to PATH, from the first tier that has it, and
fetch the next ones ahead. `tallykeep postgres restore` writes the restore_command.
"""
_GET_WAL_STATUS = """exit status:
  0    it was written
  1    no tier holds it: to PostgreSQL that is the end of WAL
  255  anything else: a tier does not answer, damage, settings that cannot be used; PostgreSQL ends recovery
"""


def add_restore(commands: SubParsers) -> None:
    """`restore`."""
    parser = _command(commands, "restore", "restore into an empty directory", _RESTORE, _EXAMPLES)
    parser.add_argument("--to", type=_folder, required=True, metavar="DIR", help="the data directory: new, or empty")
    add_moment(parser, "--time")
    parser.add_argument(
        "--target-action", default="promote", choices=("promote", "pause", "shutdown"),
        help="what the server does at the target (default: promote)",
    )  # fmt: skip
    parser.add_argument("--standby", action="store_true", help="a standby: it asks for more WAL without end")
    parser.add_argument(
        "--tablespace",
        type=_tablespace,
        action="append",
        default=[],
        metavar="OID=DIR",
        help="new place of a tablespace",
    )
    parser.add_argument("--owner", default="", metavar="USER", help="user that runs PostgreSQL, where root restores")
    parser.add_argument(
        "--program",
        type=_words,
        default="",
        metavar="COMMAND",
        help="how PostgreSQL's user runs tallykeep (default: as it is run now)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    add_place(parser)
    parser.set_defaults(run=deferred("tallykeep.systems.postgres.restoring.running:run_restore"))


def add_get_wal(commands: SubParsers) -> None:
    """`get-wal`."""
    parser = _command(commands, "get-wal", "what restore_command runs", _GET_WAL, _GET_WAL_STATUS)
    parser.add_argument("file", metavar="FILE", help="%%f: name of the WAL file")
    parser.add_argument("path", metavar="PATH", type=Path, help="%%p: where to write it")
    parser.add_argument(
        "--prefetch", type=int, default=8, metavar="N", help="segments fetched ahead; 0: none (default 8)"
    )
    parser.add_argument(
        "--absent", type=int, default=1, metavar="STATUS", help="exit status where no tier holds the file (default 1)"
    )
    parser.add_argument(
        "--planned", type=_planned, metavar="N@LSN",
        help="timeline and LSN up to which WAL was held when the restore was planned: less is no end of WAL",
    )  # fmt: skip
    parser.add_argument("--feed", action="store_true", help=argparse.SUPPRESS)
    add_place(parser)
    parser.set_defaults(run=deferred("tallykeep.systems.postgres.restoring.serving:run_get_wal"))


def add_moment(parser: argparse.ArgumentParser, time: str) -> None:
    """Which backup, and how far; `time` is what the option for a time is called."""
    parser.add_argument("--backup", default="", metavar="ID", help="id or name (default: the best for the target)")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        time, dest="time", type=_moment, metavar="TIME", help="recover to this moment: ISO 8601; no zone is UTC"
    )
    target.add_argument("--lsn", type=_lsn, help="recover to this position")
    target.add_argument("--name", default="", help="recover to this restore point (pg_create_restore_point)")
    target.add_argument("--immediate", action="store_true", help="end as soon as the backup is consistent")
    parser.add_argument(
        "--timeline", default="latest", metavar="N", help="recover along this timeline (default: latest)"
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where backups and WAL are."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="tallykeep.yaml to read (also: TALLYKEEP_CONFIG; none by default)"
    )
    parser.add_argument("--cluster", default="", metavar="NAME", help="which cluster, where there are several")
    parser.add_argument(
        "--tier", action="append", choices=("1", "2"), default=[],
        help="only this tier; repeatable, in this order (default: 1, then 2)",
    )  # fmt: skip
    parser.add_argument(
        "--tier2", default="", metavar="URL", help="tier 2, instead of settings; then tier 1 is not asked"
    )
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the recovery file, instead of settings")


def _command(commands: SubParsers, name: str, summary: str, text: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=summary, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _moment(text: str) -> float:
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _planned(text: str) -> Planned:
    from tallykeep.errors import Malformed
    from tallykeep.systems.postgres.restoring.getwal import Planned

    try:
        return Planned.parse(text)
    except Malformed as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _folder(text: str) -> Path:
    """A path; a variable that is not set is none, and not the folder that one is in."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name a folder")
    return Path(text)


def _words(text: str) -> str:
    """A command as a shell reads it."""
    try:
        shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no command: {error}") from None
    return text


def _lsn(text: str) -> LSN:
    from tallykeep.errors import Malformed
    from tallykeep.systems.postgres.lsn import LSN

    try:
        return LSN.parse(text)
    except Malformed as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _tablespace(text: str) -> tuple[int, Path]:
    oid, separator, folder = text.partition("=")
    if not separator or not oid.isdigit() or not os.path.isabs(folder):  # noqa: PTH117
        raise argparse.ArgumentTypeError(f"{text!r} is not OID=DIR with an absolute path")
    return int(oid), Path(folder)
