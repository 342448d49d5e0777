"""What `tallykeep postgres open` takes. What it does is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tallykeep.systems.postgres.restoring.commands import add_moment, add_place

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_OPEN = """
A throw-away PostgreSQL at a moment: the backup is restored into a scratch folder, a server is started there, recovers,
and takes queries, until Ctrl-C or until COMMAND ends. Then all of it is gone. What is written to it goes nowhere, and
it touches neither the primary nor the backups.

Prints a connection URL. It names a Unix socket that no other user reaches; with --port it is 127.0.0.1 with a password.
COMMAND finds the same in PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD and DATABASE_URL, and has standard output to
itself. Programs, user, folder and settings of the server are those of drills.
"""
_EXAMPLES = """examples:
  tallykeep postgres open --at 2026-11-30T09:59:00Z
  tallykeep postgres open --at 2026-11-30T09:59:00Z -- psql shop
  tallykeep postgres open --name before_migration -- pg_dump --table=orders shop > orders.sql
  tallykeep postgres open --tier 2 --port 0 --json | jq -r .dsn

exit status:
  0    it was open, and is gone; with COMMAND its own status, 128 and more where a signal has ended it
  1    it cannot be opened as asked, or bytes are damaged in every tier, or the server has ended
  2    wrong usage, or settings that cannot be used
  3    no answer from storage
  130  interrupted by Ctrl-C before it was open
"""


def add_open(commands: SubParsers) -> None:
    """Add the command."""
    from tallykeep.systems.postgres.cli import calls, command

    parser = command(commands, "open", "a throw-away server at a moment, with its DSN", _OPEN, _EXAMPLES)
    add_moment(parser, "--at")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where to restore (default: drill.scratch)")
    parser.add_argument("--port", type=_port, metavar="N", help="take connections at 127.0.0.1:N; 0: any free port")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    add_place(parser)
    parser.add_argument("program", nargs="*", metavar="COMMAND", help="what to run beside it; write -- before it")
    parser.set_defaults(run=calls("opened.commands:run_open"))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)
