"""What Kafka offers to the rest of the program: commands that work and end."""

from __future__ import annotations

from tallykeep.systems.kafka.families import FAMILIES
from tallykeep.systems.kafka.settings import KafkaSettings
from tallykeep.systems.system import System


def _never(settings: KafkaSettings) -> bool:
    """`run` watches, and there is nothing to watch: backups run by a timer."""
    return False


KAFKA = System(
    name="kafka",
    summary="topics backed up and restored byte for byte, with consumer offsets",
    settings=KafkaSettings,
    families=FAMILIES,
    enabled=_never,
    commands="tallykeep.systems.kafka.cli:add",
)
