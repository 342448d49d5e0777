"""What pulse tells Prometheus: the same figures as its API, and how its own scrapes and history fare.

Three families carry all tracked figures, told apart by `name`; their unit is that of the name: dollars for `cost`,
tokens, requests.
"""

from __future__ import annotations

from tallykeep.metrics import UNKNOWN, Alert, Family, Kind
from tallykeep.units import BYTES, COUNT, FLAG, SECONDS, STATE, TIMESTAMP

_TARGET = ("target",)

PAGE_VALUE = Family(
    "tallykeep_pulse_page_value",
    Kind.GAUGE,
    COUNT,
    ("name",),
    "A tracked figure as it stands on the scraped pages, summed over series and targets. It falls when LiteLLM "
    "restarts.",
)
WINDOW_VALUE = Family(
    "tallykeep_pulse_window_value",
    Kind.GAUGE,
    COUNT,
    ("name", "window"),
    "What a tracked figure rose by in the running day, week and month of the configured zone (window: daily, weekly, "
    "monthly); of in_flight_requests the highest value.",
)
LIFETIME = Family(
    "tallykeep_pulse_lifetime_total",
    Kind.COUNTER,
    COUNT,
    ("name",),
    "What a tracked figure rose by since the first scrape. Restarts of LiteLLM and of tallykeep, and retention, do not "
    "lower it.",
)
SCRAPES = Family("tallykeep_pulse_scrapes_total", Kind.COUNTER, COUNT, _TARGET, "Scrapes, failed ones included.")
FAILURES = Family(
    "tallykeep_pulse_scrape_failures_total",
    Kind.COUNTER,
    COUNT,
    (*_TARGET, "code"),
    "Scrapes that changed nothing. `unreachable`: no whole reply in time; `refused`: another status than 200, or "
    "too large; `malformed`: empty, or no metrics page.",
)
TARGET_UP = Family(
    "tallykeep_pulse_target_up",
    Kind.GAUGE,
    FLAG,
    _TARGET,
    "Whether the last scrape of a target succeeded.",
    alerts=(
        Alert(
            "TallykeepPulseTargetDown",
            "{n} == 0",
            "The metrics page of {{ $labels.target }} cannot be scraped: its usage is not counted meanwhile.",
            hold="10m",
        ),
    ),
)
LAST_SCRAPE = Family(
    "tallykeep_pulse_last_scrape_timestamp_seconds",
    Kind.GAUGE,
    TIMESTAMP,
    _TARGET,
    "Unix time of the last successful scrape.",
)
DURATION = Family(
    "tallykeep_pulse_scrape_duration_seconds",
    Kind.GAUGE,
    SECONDS,
    _TARGET,
    "Duration of the last scrape, parsing included.",
)
PAGE_BYTES = Family("tallykeep_pulse_page_bytes", Kind.GAUGE, BYTES, _TARGET, "Size of the last page, unpacked.")
PAGE_SERIES = Family("tallykeep_pulse_page_series", Kind.GAUGE, COUNT, _TARGET, "Series on the last page.")
RESETS = Family(
    "tallykeep_pulse_resets_total",
    Kind.COUNTER,
    COUNT,
    _TARGET,
    "Tracked series that began anew because LiteLLM restarted; what they showed was counted whole.",
)
AMBIGUOUS = Family(
    "tallykeep_pulse_ambiguous_resets_total",
    Kind.COUNTER,
    COUNT,
    _TARGET,
    "Tracked series that fell, or appeared, on a page that does not tell when its counters were created. They are "
    "taken for restarts, which counts too much where replicas take turns behind one address.",
    alerts=(
        Alert(
            "TallykeepPulseAmbiguousResets",
            "increase({n}[1h]) > 20",
            "Counters of {{ $labels.target }} keep falling and nothing tells restarts from replicas: scrape each "
            "replica as a target of its own.",
        ),
    ),
)
HISTORY = Family(
    "tallykeep_pulse_history_source",
    Kind.STATE_SET,
    STATE,
    (),
    "Where history is kept: in the SQLite file, in memory because the file cannot be used, or nowhere.",
    states=("sqlite", "memory", "disabled", UNKNOWN),
    alerts=(
        Alert(
            "TallykeepPulseHistoryNotKept",
            '{n}{{n}!="sqlite"} == 1',
            "The history file cannot be used: a restart forgets what was counted since.",
            hold="10m",
        ),
    ),
)
HISTORY_WRITABLE = Family(
    "tallykeep_pulse_history_writable",
    Kind.GAUGE,
    FLAG,
    (),
    "Whether the last round could be written to the history (1). If not, it is held in memory and written later.",
    alerts=(
        Alert(
            "TallykeepPulseHistoryNotWritten",
            "{n} == 0",
            "Rounds cannot be written to the history file: is the disk full?",
        ),
    ),
)
HISTORY_SET_ASIDE = Family(
    "tallykeep_pulse_history_set_aside",
    Kind.GAUGE,
    FLAG,
    (),
    "Whether a damaged history file was set aside at this start and a new one begun.",
    alerts=(
        Alert(
            "TallykeepPulseHistoryDamaged",
            "{n} == 1",
            "The history file was damaged: it was renamed and a new one begun; see the log for its name.",
            hold="0s",
        ),
    ),
)

FAMILIES = (
    PAGE_VALUE,
    WINDOW_VALUE,
    LIFETIME,
    SCRAPES,
    FAILURES,
    TARGET_UP,
    LAST_SCRAPE,
    DURATION,
    PAGE_BYTES,
    PAGE_SERIES,
    RESETS,
    AMBIGUOUS,
    HISTORY,
    HISTORY_WRITABLE,
    HISTORY_SET_ASIDE,
)
