"""What the listeners say of themselves."""

from __future__ import annotations

from tallykeep.metrics import Alert, Family, Kind
from tallykeep.units import COUNT, FLAG

CONFIG_LOADED = Family(
    "tallykeep_web_config_last_reload_successful",
    Kind.GAUGE,
    FLAG,
    ("file",),
    "Whether web.config.yml and its certificates could be read when they last changed (1); if not (0), those "
    "loaded before are still in use.",
    alerts=(
        Alert(
            "TallykeepWebConfigBroken",
            "{n} == 0",
            "{{ $labels.file }} or a certificate it names cannot be used; the old ones serve until they expire.",
        ),
    ),
)
CONFIG_ERRORS = Family(
    "tallykeep_web_config_reload_errors_total",
    Kind.COUNTER,
    COUNT,
    ("file",),
    "Changes of web.config.yml or its certificates that could not be used.",
)

FAMILIES = (CONFIG_LOADED, CONFIG_ERRORS)
