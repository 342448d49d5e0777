"""What tallykeep says of itself: collectors, services, state, build.

Alerts on a system's own verdicts belong to that system; those here wake somebody when tallykeep has stopped
looking. Both are needed: a verdict that says unknown tells that nothing is known, these tell why.
"""

from __future__ import annotations

from tallykeep.metrics import Alert, Family, Kind
from tallykeep.units import COUNT, FLAG, SECONDS, TIMESTAMP

_WORK = ("collector", "target")

COLLECTOR_UP = Family(
    "tallykeep_collector_up",
    Kind.GAUGE,
    FLAG,
    _WORK,
    "Whether the last collection succeeded (1) or failed, timed out or still hangs (0).",
    alerts=(
        Alert(
            "TallykeepCollectorDown",
            "{n} == 0",
            "{{ $labels.collector }} cannot look at {{ $labels.target }}: figures are withdrawn, verdicts are unknown.",
        ),
    ),
)
COLLECTOR_DURATION = Family(
    "tallykeep_collector_duration_seconds",
    Kind.GAUGE,
    SECONDS,
    _WORK,
    "Duration of the last collection, failed ones included.",
)
COLLECTOR_INTERVAL = Family(
    "tallykeep_collector_interval_seconds",
    Kind.GAUGE,
    SECONDS,
    _WORK,
    "Seconds between the starts of two collections, as configured.",
)
COLLECTOR_LAST_SUCCESS = Family(
    "tallykeep_collector_last_success_timestamp_seconds",
    Kind.GAUGE,
    TIMESTAMP,
    _WORK,
    "Unix time at which the last successful collection ended. Absent before the first.",
    alerts=(
        Alert(
            "TallykeepCollectorStale",
            "time() - {n} > 3 * tallykeep_collector_interval_seconds",
            "{{ $labels.collector }} has not looked at {{ $labels.target }} with success for three intervals.",
        ),
    ),
)
COLLECTOR_ERRORS = Family(
    "tallykeep_collector_errors_total",
    Kind.COUNTER,
    COUNT,
    (*_WORK, "code"),
    "Failed collections by error code. `timeout`: it did not end in time; `internal`: a defect of tallykeep.",
)
SERVICE_UP = Family(
    "tallykeep_service_up",
    Kind.GAUGE,
    FLAG,
    ("service",),
    "Whether a service runs (1) or waits for its restart after a failure (0).",
    alerts=(Alert("TallykeepServiceDown", "{n} == 0", "{{ $labels.service }} keeps failing; see the log."),),
)
SERVICE_RESTARTS = Family(
    "tallykeep_service_restarts_total",
    Kind.COUNTER,
    COUNT,
    ("service",),
    "Restarts of a service after a failure.",
)
STATE_CREATED = Family(
    "tallykeep_state_created_timestamp_seconds",
    Kind.GAUGE,
    TIMESTAMP,
    (),
    "Unix time at which the state directory was first used. A change means that counters and history began anew.",
)
STATE_PERSISTENT = Family(
    "tallykeep_state_persistent",
    Kind.GAUGE,
    FLAG,
    (),
    "Whether a restart finds the state again (1), or it is kept in memory because its folder cannot be written (0).",
    alerts=(
        Alert(
            "TallykeepStateNotPersistent",
            "{n} == 0",
            "tallykeep keeps its state in memory and forgets it when it restarts: give it a folder it may write.",
            hold="1h",
        ),
    ),
)
BUILD_INFO = Family(
    "tallykeep_build_info",
    Kind.GAUGE,
    FLAG,
    ("version", "python"),
    "1, with the versions of tallykeep and Python in labels.",
    alerts=(Alert("TallykeepAbsent", "absent({n})", "No tallykeep is scraped: nothing is watched."),),
)

FAMILIES = (
    COLLECTOR_UP,
    COLLECTOR_DURATION,
    COLLECTOR_INTERVAL,
    COLLECTOR_LAST_SUCCESS,
    COLLECTOR_ERRORS,
    SERVICE_UP,
    SERVICE_RESTARTS,
    STATE_CREATED,
    STATE_PERSISTENT,
    BUILD_INFO,
)
