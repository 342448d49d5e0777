"""What PostgreSQL protection offers to the rest of the program."""

from __future__ import annotations

from tallykeep.systems.postgres.families import FAMILIES
from tallykeep.systems.postgres.settings import PostgresSettings
from tallykeep.systems.system import System

POSTGRES = System(
    name="postgres",
    summary="WAL as it is written, base backups, object storage, and drills that prove a restore",
    settings=PostgresSettings,
    families=FAMILIES,
    enabled=PostgresSettings.asked_for,
    open="tallykeep.systems.postgres.opening:open_postgres",
    check="tallykeep.systems.postgres.opening:check_postgres",
    commands="tallykeep.systems.postgres.cli:add",
)
