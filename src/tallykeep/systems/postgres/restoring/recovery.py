"""Recovery settings of a restored cluster: what stands in postgresql.auto.conf, and the file that starts recovery.

postgresql.conf and pg_hba.conf come back as they were. What would hurt a restored server is overridden: with
synchronous_standby_names every commit would wait for a standby that is not there, with primary_conninfo a standby
would follow the server that was lost. Recovery settings of an earlier restore, which the backup may hold, are taken
out; every target is set, since two of them are an error.
Source: PostgreSQL, Write Ahead Log, 20.5.5 and 20.5.6; guc-file.l for what may stand between quotes.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import RestoreError
from tallykeep.systems.postgres.part import write_file
from tallykeep.systems.postgres.restoring.getwal import ASIDE
from tallykeep.systems.postgres.restoring.request import RestoreRequest

_STANDBY, _RECOVERY = "standby.signal", "recovery.signal"
CONF, AUTO_CONF = "postgresql.conf", "postgresql.auto.conf"
SPOOL = "pg_wal/tallykeep.spool"  # on pg_wal's file system, so that a move is a rename; no base backup holds it
END_COMMAND = (  # nobody adds to what was moved
    f"rm -rf pg_wal/*{ASIDE} {SPOOL}.over; mv {SPOOL} {SPOOL}.over 2>/dev/null; rm -rf {SPOOL}.over"
)
NOT_HELD = 99  # what get-wal ends with where no tier holds a file; no accident ends so
_FATAL = 255  # above 125: PostgreSQL gives up recovery instead of taking WAL for ended
_TARGETS = (
    "recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid",
)  # fmt: skip
_OWN = (
    "restore_command", "recovery_end_command", "recovery_target_action", "recovery_target_inclusive",
    "recovery_target_timeline", *_TARGETS,
)  # fmt: skip
_CALMED = ("synchronous_standby_names", "primary_conninfo", "primary_slot_name")
_SETTING = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(?:=|\s)\s*(.*)")
_OFF = ("", "''", "off", "'off'", "no", "false")


class Recovery(NamedTuple):
    """How a restored cluster recovers."""

    request: RestoreRequest
    timeline: int
    command: Sequence[str]  # `tallykeep postgres get-wal` and its options, without the file and the path


def settings(recovery: Recovery) -> dict[str, str]:
    """What is set, in the order in which it is."""
    request = recovery.request
    end = {} if request.standby else {"recovery_target_action": request.action}
    if request.action == "pause":
        end["hot_standby"] = "on"  # without it PostgreSQL shuts down instead
    return {
        **dict.fromkeys(_CALMED, ""),
        "restore_command": restore_command(recovery.command),
        "recovery_end_command": END_COMMAND,
        "recovery_target_timeline": "latest" if request.standby else str(recovery.timeline),
        "recovery_target_inclusive": "on",
        **end, **target(request),
    }  # fmt: skip


def target(request: RestoreRequest) -> dict[str, str]:
    """Every setting that may be a target, in the order in which they are set: the one that is asked for is the last."""
    chosen = _chosen(request)
    return {name: "" for name in _TARGETS if name not in chosen} | chosen


def _chosen(request: RestoreRequest) -> dict[str, str]:
    if request.time is not None:
        return {"recovery_target_time": _moment(request.time)}
    if request.lsn is not None:
        return {"recovery_target_lsn": str(request.lsn)}
    if request.name:
        return {"recovery_target_name": request.name}
    return {"recovery_target": "immediate"} if request.immediate else {}


def _moment(moment: float) -> str:
    """As PostgreSQL reads it wherever it runs: to the microsecond, with its zone."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S.%f}+00"


def restore_command(command: Sequence[str]) -> str:
    """What PostgreSQL gives a shell, in the data directory: out of the spool by a rename, else by get-wal.

    1, the end of WAL, is what get-wal says on purpose alone: a program that is not there, or fails, ends recovery.
    """
    asked = " ".join(shlex.quote(word).replace("%", "%%") for word in command)
    return (
        f"mv {SPOOL}/%f %p 2>/dev/null && exit 0; {asked} --absent {NOT_HELD} %f %p; s=$?; "
        f'[ "$s" -eq {NOT_HELD} ] && exit 1; [ "$s" -eq 0 ] || [ "$s" -gt 125 ] || s={_FATAL}; exit "$s"'
    )


def write(folder: Path, recovery: Recovery) -> None:
    """Make a restored data directory recover when its server starts. Durable. Blocks. Raises: StoreErrors."""
    path = folder / AUTO_CONF
    own = settings(recovery)
    kept = [line for line in _lines(path) if _name(line) not in {*own, *_OWN}]
    text = "".join(f"{line}\n" for line in (*kept, *(f"{name} = {quoted(value)}" for name, value in own.items())))
    write_file(path, text.encode("utf-8", "surrogateescape"))
    for name in (_STANDBY, _RECOVERY):  # of a restore that was cut and is begun again with other options
        (folder / name).unlink(missing_ok=True)
    write_file(folder / made(recovery.request)[1], b"")


def made(request: RestoreRequest) -> tuple[str, str]:
    """What `write` makes, for whoever must own it."""
    return AUTO_CONF, _STANDBY if request.standby else _RECOVERY


def quoted(value: str) -> str:
    """A value as a configuration file of PostgreSQL has it."""
    text = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{text}'"


def notes(folder: Path) -> list[str]:
    """What is worth knowing of the settings that came back, before recovery's own are written. Blocks."""
    found = _configured(folder)
    told = [f"{name} was set and is not any more" for name in _CALMED if found.get(name, "''") not in _OFF]
    if found.get("archive_mode", "off") not in _OFF:
        told.append(
            "archive_mode is on: the restored server archives where the old one did, on its new timeline; set it off "
            "in postgresql.conf before the start where it must not"
        )
    if not (folder / CONF).exists():
        told.append(
            f"the backup holds no {CONF}: the cluster keeps it elsewhere, as Debian's packages do, and a base backup "
            "does not take that along. Start with that file, or one whose limits, such as max_connections, are no lower"
        )
    return told


def _configured(folder: Path) -> Mapping[str, str]:
    """Settings of postgresql.conf and postgresql.auto.conf, the last of each; included files are not looked at."""
    found: dict[str, str] = {}
    for name in (CONF, AUTO_CONF):
        for line in _lines(folder / name):
            if (setting := _SETTING.match(line)) is not None:
                found[setting[1].lower()] = setting[2].split("#")[0].strip()
    return found


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RestoreError(f"{path}: cannot be read: {error.strerror}.") from None


def _name(line: str) -> str:
    found = _SETTING.match(line)
    return found[1].lower() if found else ""


def start_command(folder: Path) -> str:
    """How the server is started, for people. Blocks."""
    command = f"pg_ctl start -D {shlex.quote(os.fspath(folder))}"
    if (folder / CONF).exists():
        return command
    elsewhere = f"-c config_file=/path/to/{CONF} -c data_directory={shlex.quote(os.fspath(folder))}"
    return f"{command} -o {shlex.quote(elsewhere)}"
