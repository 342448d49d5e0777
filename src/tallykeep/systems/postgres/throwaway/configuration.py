"""Settings that keep a restored server to itself, on its command line, where they are stronger than any file.

It is a copy of a cluster that is in use elsewhere, and must not act as that: it is on no network (at the most on
127.0.0.1), archives nothing, waits for no standby, follows no primary, and runs no background workers, so neither
subscriptions, which would take the slot of the true subscriber, nor jobs of extensions. Its data is thrown away, so it
never flushes.
With hot_standby=off recovery asks for none of the primary's limits; those for prepared transactions are generous.
Source: PostgreSQL, Server Configuration; Hot Standby, Administrator's Overview; logical replication's launcher and
all jobs of extensions are background workers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.throwaway.scratch import Scratch

_MIB = 1 << 20
_SETTING = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=(.*)", re.DOTALL)
_ALONE = {
    "allow_in_place_tablespaces": "on",  # see within.py
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "unix_socket_group": "",
    "ssl": "off",
    "archive_mode": "off",
    "synchronous_standby_names": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "max_wal_senders": "0",
    "max_worker_processes": "0",
    "max_logical_replication_workers": "0",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
}
_RECOVERY = {
    "recovery_target_action": "promote",
    "recovery_target_inclusive": "on",
    "recovery_end_command": "",
    "archive_cleanup_command": "",
    "hot_standby": "off",
}
_SMALL = {
    "wal_level": "replica",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "max_prepared_transactions": "256",
    "max_locks_per_transaction": "256",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: nothing of a server that was killed stays elsewhere
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "jit": "off",
}
_SAYING = {  # what is read in the log
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "",
    "log_min_messages": "warning",
    "log_error_verbosity": "default",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_timezone": "UTC",
    "lc_messages": "C",
}
_UNHURRIED = {  # nothing ends early what is asked
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "client_connection_check_interval": "1s",
    "default_transaction_read_only": "off",
}

_SINCE = {  # by the first major that knows them
    16: {"reserved_connections": "0"},
    17: {"event_triggers": "off", "transaction_timeout": "0", "summarize_wal": "off"},
    18: {"io_method": "worker"},
}


class Source(NamedTuple):
    """The WAL that is recovered."""

    command: str  # restore_command
    timeline: int
    segment_size: int
    target: Mapping[str, str]  # settings, in their order


def arguments(
    scratch: Scratch, major: int, source: Source, more: Iterable[str] = (), *,
    port: int = 0, libraries: str | None = None, own_file: bool = False,
) -> list[str]:  # fmt: skip
    """What stands behind `postgres`: the server's settings, `more` of them (name=value) stronger, but for the target.

    `port`: of 127.0.0.1, where it takes connections there too; `libraries`: shared_preload_libraries, where it is not
    to be the cluster's own; `own_file`: without the cluster's postgresql.conf. Raises: ConfigError.
    """
    chosen = _ALONE | _RECOVERY | _SMALL | _SAYING | _UNHURRIED | _paths(scratch, own_file)
    chosen |= _wal_size(source.segment_size)
    if port:
        chosen |= {"listen_addresses": "127.0.0.1", "port": str(port)}
    chosen |= {"restore_command": source.command, "recovery_target_timeline": str(source.timeline)}
    if libraries is not None:
        chosen["shared_preload_libraries"] = libraries
    for first, settings in _SINCE.items():
        chosen |= settings if major >= first else {}
    chosen |= dict(map(_named, more))
    ordered = [(name, value) for name, value in chosen.items() if name not in source.target]
    return [part for name, value in (*ordered, *source.target.items()) for part in ("-c", f"{name}={value}")]


def write_files(scratch: Scratch, visitor: str = "") -> None:
    """Write who may log in: by the socket whoever can reach it, by TCP the role `visitor` alone, with its password.

    And an empty postgresql.conf. Blocks.
    """
    by_tcp = f"host all {visitor} 127.0.0.1/32 scram-sha-256\n" if visitor else ""
    files = {"hba.conf": f"local all all trust\n{by_tcp}", "ident.conf": "", "postgresql.conf": ""}
    for name, text in files.items():
        (scratch.folder / name).write_text(text)
        (scratch.folder / name).chmod(0o644)


def _paths(scratch: Scratch, own_file: bool) -> dict[str, str]:
    """The cluster's postgresql.conf is read where it is in the backup: packages of Debian keep it elsewhere."""
    theirs, ours = scratch.data / "postgresql.conf", scratch.folder / "postgresql.conf"
    config: Path = ours if own_file or not theirs.exists() else theirs
    return {
        "config_file": str(config),
        "data_directory": str(scratch.data),
        "hba_file": str(scratch.folder / "hba.conf"),
        "external_pid_file": str(scratch.data / "throwaway.pid"),
        "ident_file": str(scratch.folder / "ident.conf"),
        "unix_socket_directories": str(scratch.sockets),
    }


def _wal_size(segment_size: int) -> dict[str, str]:
    """Little WAL is kept; PostgreSQL asks for room for two segments at the least."""
    segment = -(-segment_size // _MIB)
    return {"min_wal_size": f"{max(80, 2 * segment)}MB", "max_wal_size": f"{max(1024, 4 * segment)}MB"}


def _named(text: str) -> tuple[str, str]:
    found = _SETTING.fullmatch(text)
    if found is None:
        raise ConfigError(f"postgres: drill.settings: {text!r} is no setting; one looks like shared_buffers=1GB")
    return found[1], found[2].strip()
