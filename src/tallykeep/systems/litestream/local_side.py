"""How far a replica is behind the live database, in TXIDs and in commits, told from the files beside it.

Always looked at after the replica: the other way round, what was uploaded in between would seem to be missing.
Plain reads, in a process without a SQLite connection to the database.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tallykeep.errors import ConfigError
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.report import LocalSide
from tallykeep.systems.litestream.rpo import Meter, read_header
from tallykeep.systems.litestream.targets import database_of, local_folder, meta_path

_META = ".*-litestream"
_ALL = 1 << 62  # bytes of WAL: a command has no next look that could go on where this one ends


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The L0 files of the local side, by name."""

    folder: Path  # of level 0
    names: tuple[LtxName, ...]  # ascending

    @property
    def tip(self) -> Txid | None:
        """The newest TXID; None where there is no file."""
        return self.names[-1].max if self.names else None

    def waiting_since(self, txid: Txid) -> float | None:
        """Unix seconds of the oldest file beyond `txid`: since when it waits; None where nothing does."""
        name = next((name for name in self.names if name.max > txid), None)
        if name is None:
            return None
        with suppress(OSError, LtxError):
            return read_header(self.folder / str(name)).timestamp
        with suppress(OSError):
            return (self.folder / str(name)).stat().st_mtime
        return 0.0


def find_local(path: Path) -> Path:
    """The local LTX folder that `path` means: itself, its metadata folder, the folder around that, the database.

    A database that is lost still has its folder beside it.

    Raises: ConfigError where there is none, or more than one.
    """
    if not path.exists() and not (meta_path(path) / "ltx").is_dir():
        raise ConfigError(
            f"{path} does not exist: name the database, or Litestream's folder .NAME-litestream beside it"
        )
    if path.is_dir() and path.name != "ltx" and not (path / "ltx").is_dir() and not (path / "0").is_dir():
        path = _only(path)
    folder = local_folder(path) if path.exists() else meta_path(path) / "ltx"
    if not folder.is_dir():
        raise ConfigError(f"{folder} does not exist: Litestream has not replicated this database from here")
    return folder


def _only(folder: Path) -> Path:
    found = sorted(path for path in folder.glob(_META) if path.is_dir())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(f"{folder} must hold exactly one folder .NAME-litestream, and holds: {names}")
    return found[0]


def look(ltx: Path) -> LocalFiles:
    """The L0 files now. Raises: OSError where the folder is there and cannot be read."""
    folder = ltx / "0"
    names = []
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(ValueError):
                names.append(LtxName.parse(path.name))
    return LocalFiles(folder, tuple(sorted(names)))


def measure(
    local: LocalFiles, database: Path | None, restorable: Txid | None, newest: Header | None, now: Callable[[], float]
) -> LocalSide:
    """The distance between the local side and what a restore would give.

    `newest` is the header of the last file of the plan to `restorable`. Blocks; reads all of the WAL behind that.
    """
    lag = None if local.tip is None else max(0, local.tip - (restorable or 0))
    if database is None:
        return LocalSide(lag, rpo_reason="database_missing")
    try:
        found = Meter(database, local.folder).measure(newest, _ALL)
    except OSError as error:
        return LocalSide(lag, rpo_reason=f"unreadable: {error}")
    return LocalSide(
        lag_txids=lag,
        rpo_commits=found.commits,
        rpo_at_least=None if found.reason is None else found.at_least,
        rpo_reason=str(found.reason or ""),
        rpo_bytes=found.bytes,
        rpo_seconds=found.seconds(now()),
    )


def measure_alone(ltx: Path, database: Path | None) -> LocalSide:
    """What surely is on no replica, whatever that holds: the commits behind the newest local L0 file. Blocks."""
    with suppress(OSError, LtxError):
        local = look(ltx)
        if local.names and database is not None:
            found = Meter(database, local.folder).measure(read_header(local.folder / str(local.names[-1])), _ALL)
            return LocalSide(None, rpo_at_least=found.at_least, rpo_reason="replica_unknown")
    return LocalSide(None, rpo_reason="replica_unknown")


def database_beside(ltx: Path) -> Path | None:
    """The database of a local LTX folder, where it is there."""
    database = database_of(ltx)
    return database if database is not None and database.exists() else None
