"""The replication slot: what keeps WAL on the primary until tallykeep has it, and what it costs there.

A slot keeps WAL without end, or up to max_slot_wal_keep_size; beyond that the primary drops the slot's WAL, and the
slot is lost. Source: PostgreSQL, pg_replication_slots; CREATE_REPLICATION_SLOT; after a restart a standby may have
replayed more than its pg_last_wal_receive_lsn.
"""

from __future__ import annotations

from typing import NamedTuple

from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.replication import Connection, identifier, literal

_PRIMARY = """
SELECT pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
       ELSE pg_current_wal_flush_lsn() END, current_setting('max_slot_wal_keep_size'),
       CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8) END,
       (SELECT system_identifier FROM pg_control_system()), EXISTS (SELECT FROM pg_stat_wal_receiver)
"""
_SLOT = """
SELECT slot_type, active, restart_lsn, wal_status, safe_wal_size FROM pg_replication_slots WHERE slot_name = {name}
"""
LOST = "lost"


class Slot(NamedTuple):
    """A slot as the server tells it."""

    physical: bool
    active: bool
    restart: LSN | None  # WAL is kept from here on; None: nothing is
    status: str  # reserved, extended, unreserved, lost; "" while nothing is kept
    safe: int | None  # bytes that may be written before it is lost; None: without end

    @property
    def lost(self) -> bool:
        return self.status == LOST


class ServerState(NamedTuple):
    """Where the server stands."""

    standby: bool
    lsn: LSN  # WAL is durable there up to here
    keep: str  # max_slot_wal_keep_size; "-1": without end
    slot: Slot | None  # None: there is none of that name
    timeline: int = 0  # that it writes; 0 on a standby
    system_id: int = 0  # 0: not told
    following: bool = False  # a standby to which a primary sends WAL

    @property
    def retained(self) -> int | None:
        """Bytes of WAL that the slot keeps."""
        if self.slot is None or self.slot.restart is None:
            return None
        return max(0, self.lsn - self.slot.restart)


def look(connection: Connection, slot: str) -> ServerState:
    """What the server says now, over an ordinary connection. Raises: as Connection.execute does."""
    (standby, lsn, keep, timeline, system_id, following) = connection.execute(_PRIMARY)[0]
    found = find(connection, slot)
    return ServerState(
        standby == "t", LSN.parse(lsn or "0/0"), keep or "", found, int(timeline or "0", 16), int(system_id or 0),
        following == "t",
    )  # fmt: skip


def find(connection: Connection, slot: str) -> Slot | None:
    """The slot of that name, over an ordinary connection. Raises: as Connection.execute does."""
    rows = connection.execute(_SLOT.format(name=literal(slot)))
    if not rows:
        return None
    kind, active, restart, status, safe = rows[0]
    return Slot(
        kind == "physical", active == "t", LSN.parse(restart) if restart else None, status or "",
        None if safe is None else int(safe),
    )  # fmt: skip


def create(connection: Connection, slot: str) -> None:
    """Make it, keeping WAL from now on, over a replication connection. Raises: as Connection.execute does."""
    connection.execute(f"CREATE_REPLICATION_SLOT {identifier(slot)} PHYSICAL RESERVE_WAL")


def drop(connection: Connection, slot: str) -> None:
    """Remove it, over a replication connection. Raises: as Connection.execute does."""
    connection.execute(f"DROP_REPLICATION_SLOT {identifier(slot)}")
