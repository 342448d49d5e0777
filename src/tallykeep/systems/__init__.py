"""The systems tallykeep knows. A sixth is one folder and one line in `all_systems`."""

from __future__ import annotations

from tallykeep.systems.system import System, Tools

__all__ = ["System", "Tools", "all_systems"]


def all_systems() -> tuple[System, ...]:
    """Every system, in the order of pages and docs. Cheap: heavy parts are imported when they are used."""
    from tallykeep.systems.kafka.system import KAFKA
    from tallykeep.systems.litellm.system import LITELLM
    from tallykeep.systems.litestream.system import LITESTREAM
    from tallykeep.systems.postgres.system import POSTGRES
    from tallykeep.systems.pulse.system import PULSE

    return (LITESTREAM, LITELLM, PULSE, KAFKA, POSTGRES)
