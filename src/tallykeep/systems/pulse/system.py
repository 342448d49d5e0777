"""What pulse offers to the rest of the program."""

from __future__ import annotations

from tallykeep.systems.pulse.families import FAMILIES
from tallykeep.systems.pulse.settings import PulseSettings
from tallykeep.systems.system import System, Web


def _web(settings: PulseSettings) -> Web:
    return Web(settings.host, settings.port, "LITELLM_PULSE_PORT", settings.api_token, settings.cors_origins)


PULSE = System(
    name="pulse",
    summary="what the LLM gateway did today, this week, this month, from its metrics page, as JSON",
    settings=PulseSettings,
    families=FAMILIES,
    enabled=PulseSettings.asked_for,
    any_setting_asks=True,
    open="tallykeep.systems.pulse.opening:open_pulse",
    commands="tallykeep.systems.pulse.cli:add",
    routes="tallykeep.systems.pulse.api:router",
    web=_web,
)
