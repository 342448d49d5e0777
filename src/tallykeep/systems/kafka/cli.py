"""The commands of `tallykeep kafka`. What a command does is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tallykeep.runtime.deferred import deferred

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


_LOOKING = """
A backup is named by -p PATH and -b ID, PATH being the folder or s3://bucket/prefix (AWS_* variables say who asks), or
by a settings file.
"""
_LIST = f"""
Which backups there are; with -b the topics in one.
{_LOOKING}"""
_DESCRIBE = f"""
What a backup holds: runs, topics with their partitions, offsets, times, sizes and gaps, and consumer groups.
{_LOOKING}"""
_STATUS_TEXT = f"""
How far a backup has come and how old that is; where the settings name the source, also how far it is behind.
{_LOOKING}"""
_VALIDATE = f"""
Is everything there that the manifest names? --deep reads all of it: hashes, indexes, checksums of batches, the
records themselves, offsets without holes, counts, timestamps. Any byte that was changed is found and named.
{_LOOKING}"""
_OFFSETS = """
Consumer groups go on at exactly the next unread record, also where a restore has given records other offsets: a
restore writes a map from old offsets to new ones, and the groups of the backup are set by it.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `parser`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_backup(commands)
    _add_restore(commands)
    _add_list(commands)
    _add_describe(commands)
    _add_status(commands)
    _add_validate(commands)
    _add_offsets(commands)


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


def _add_list(commands: SubParsers) -> None:
    parser = _command(commands, "list", "the backups, or the topics in one", _LIST, _STATUS)
    _looking(parser)
    parser.set_defaults(run=_calls("inspecting:run_list"))


def _add_describe(commands: SubParsers) -> None:
    parser = _command(commands, "describe", "what a backup holds", _DESCRIBE, _STATUS)
    _looking(parser)
    parser.add_argument("-f", "--format", choices=("text", "json", "yaml"), default="text", help="(default: text)")
    parser.add_argument(
        "--topic", action="append", default=[], metavar="TOPIC", help="only these: names, globs, ~regexes; repeatable"
    )
    parser.set_defaults(run=_calls("inspecting:run_describe"))


def _add_status(commands: SubParsers) -> None:
    parser = _command(commands, "status", "how far a backup has come, and how old it is", _STATUS_TEXT, _STATUS)
    _looking(parser)
    parser.add_argument(
        "--watch", nargs="?", type=_seconds, const=5.0, metavar="SECONDS", help="look again and again (default: 5)"
    )
    parser.set_defaults(run=_calls("inspecting:run_status"))


def _add_validate(commands: SubParsers) -> None:
    parser = _command(commands, "validate", "prove a backup sound", _VALIDATE, _STATUS)
    _looking(parser)
    parser.add_argument("--deep", action="store_true", help="read and verify everything")
    parser.add_argument(
        "--expect-sequence", metavar="N[:HASH]",
        help="the manifest must reach that record, as `status --json` told it before: shows that none was cut off",
    )  # fmt: skip
    parser.set_defaults(run=_calls("inspecting:run_validate"))


def _add_offsets(commands: SubParsers) -> None:
    parser = _command(commands, "offsets", "offsets of consumer groups after a restore", _OFFSETS, _STATUS)
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    plan = _mapped(inner, "plan", "where each group would go on")
    plan.set_defaults(run=_calls("offset_commands:run_plan"))
    apply = _mapped(inner, "apply", "set the groups' offsets in the target cluster")
    apply.add_argument("--dry-run", action="store_true", help="change nothing")
    apply.set_defaults(run=_calls("offset_commands:run_apply"))
    script = _mapped(inner, "script", "print what does the same with kafka-consumer-groups.sh")
    script.add_argument("--bootstrap", metavar="HOST:PORT", default="", help="for the script; else the target's")
    script.set_defaults(run=_calls("offset_commands:run_script"))
    snapshot = _command(inner, "snapshot", "save the groups' offsets as they are now", _OFFSETS, _STATUS)
    _looking(snapshot)
    _groups(snapshot)
    snapshot.add_argument("--side", choices=("source", "target"), default="source", help="whose (default: source)")
    snapshot.add_argument("-o", "--output", type=Path, metavar="FILE", help="to this file; else into the backup")
    snapshot.set_defaults(run=_calls("offset_commands:run_snapshot"))


def _mapped(commands: SubParsers, name: str, summary: str) -> argparse.ArgumentParser:
    """A command that works by an offset map."""
    parser = _command(commands, name, summary, _OFFSETS, _STATUS)
    _looking(parser)
    _groups(parser)
    parser.add_argument("--restore", metavar="ID", help="the restore whose map is used (default: the newest)")
    parser.add_argument("--map", type=Path, metavar="FILE", help="the map itself, an offset-map.json")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="offsets saved by `offsets snapshot -o`")
    return parser


def _groups(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group", "--groups", dest="groups", action="append", default=[], metavar="GROUP",
        help="only these: names, globs, ~regexes; repeatable",
    )  # fmt: skip


def _looking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--path", metavar="PATH", help="where the backups are: a folder or s3://bucket/prefix")
    _config(parser)
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def _seconds(text: str) -> float:
    from tallykeep.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
    return deferred(f"tallykeep.systems.kafka.{where}")
