"""What LiteLLM's database offers to the rest of the program."""

from __future__ import annotations

from tallykeep.systems.litellm.families import FAMILIES
from tallykeep.systems.litellm.settings import LitellmSettings
from tallykeep.systems.system import System

LITELLM = System(
    name="litellm",
    summary="what the LLM gateway cost, and who spent it, from its database",
    settings=LitellmSettings,
    families=FAMILIES,
    enabled=LitellmSettings.asked_for,
    open="tallykeep.systems.litellm.opening:open_litellm",
    commands="tallykeep.systems.litellm.cli:add",
)
