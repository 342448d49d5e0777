"""The commands of `tallykeep kafka`. What a command does is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_STATUS = """
exit status:
  0    done
  1    not done, or not all of it: what is done is kept, and the same command goes on from there
  2    wrong usage, or settings that cannot be used
  3    no connection to Kafka
  4    Kafka refused the login, the certificate or the user
  5    storage failed or refused
  6    the backup is not what it should be, or a restore is refused before it begins
  130  interrupted by Ctrl-C
"""
_BACKUP = """
Back up topics: everything from where the last run ended to where the log ended when this run began. Record batches
are kept byte for byte, with topic settings, partition counts and the offsets of consumer groups. Run it again to go
on; run it by a timer to stay close.
"""
_BACKUP_EXAMPLES = f"""examples:
  tallykeep kafka backup --config backup.yaml
  tallykeep kafka backup --config backup.yaml --json | jq .records

backup.yaml:
  mode: backup
  backup_id: daily
  source:
    bootstrap_servers: [kafka:9092]
    topics: {{include: ["orders*"]}}
  storage: {{backend: s3, bucket: backups, region: eu-central-1}}
{_STATUS}"""
_RESTORE = """
Restore topics of a backup: to the same cluster or another, under the same names or others, whole or up to a moment.
Nothing is sent twice: an interrupted restore goes on where it was. In the end the target is read back and compared.
"""
_RESTORE_EXAMPLES = f"""examples:
  tallykeep kafka restore --config restore.yaml --dry-run
  tallykeep kafka restore --config restore.yaml

restore.yaml:
  mode: restore
  backup_id: daily
  target:
    bootstrap_servers: [kafka:9092]
  storage: {{backend: s3, bucket: backups, region: eu-central-1}}
  restore:
    topic_mapping: {{orders: orders-restored}}
    time_window_end: 1767225600000
{_STATUS}"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `parser`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_backup(commands)
    _add_restore(commands)


def _add_backup(commands: SubParsers) -> None:
    parser = _command(commands, "backup", "back topics up", _BACKUP, _BACKUP_EXAMPLES)
    _config(parser)
    _output(parser)
    parser.set_defaults(run=_calls("commands:run_backup"))


def _add_restore(commands: SubParsers) -> None:
    parser = _command(commands, "restore", "restore topics", _RESTORE, _RESTORE_EXAMPLES)
    _config(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and what speaks against it")
    _output(parser)
    parser.set_defaults(run=_calls("commands:run_restore"))


def _command(commands: SubParsers, name: str, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=summary, description=description, epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path,
        help="settings as kafka-backup reads them, or a tallykeep.yaml with a section kafka (also: TALLYKEEP_CONFIG)",
    )  # fmt: skip
    parser.add_argument("-b", "--backup-id", metavar="ID", help="the backup, instead of backup_id in the file")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _calls(where: str) -> Callable[[argparse.Namespace], int]:
    module, _, name = where.partition(":")

    def run(args: argparse.Namespace) -> int:
        status: int = getattr(import_module(f"tallykeep.systems.kafka.{module}"), name)(args)
        return status

    return run
