"""What Litestream offers to the rest of the program."""

from __future__ import annotations

from tallykeep.systems.litestream.families import FAMILIES
from tallykeep.systems.litestream.settings import LitestreamSettings
from tallykeep.systems.system import System

LITESTREAM = System(
    name="litestream",
    summary="is the replica restorable, and how much would be lost now",
    settings=LitestreamSettings,
    families=FAMILIES,
    enabled=LitestreamSettings.asked_for,
    open="tallykeep.systems.litestream.opening:open_litestream",
    check="tallykeep.systems.litestream.opening:check_litestream",
    commands="tallykeep.systems.litestream.cli:add",
)
