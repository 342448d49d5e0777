"""What telemetry says of itself. Only on pages when an exporter is named."""

from __future__ import annotations

from tallykeep.metrics import Alert, Family, Kind
from tallykeep.telemetry.host_families import HOST
from tallykeep.units import COUNT, TIMESTAMP

SUCCESS, FAILURE = "success", "failure"
TRACES, METRICS = "traces", "metrics"

EXPORTS = Family(
    "tallykeep_telemetry_exports_total",
    Kind.COUNTER,
    COUNT,
    ("signal", "result"),
    "Exports of traces and of metrics to their receiver, by how they ended (success, failure).",
    alerts=(
        Alert(
            "TallykeepTelemetryNotSent",
            'increase({n}{result="failure"}[15m]) > 0 unless ignoring(result) increase({n}{result="success"}[15m]) > 0',
            "For 15 minutes no {{ $labels.signal }} have reached the OpenTelemetry receiver; the log says why.",
        ),
    ),
)
ITEMS = Family(
    "tallykeep_telemetry_items_total",
    Kind.COUNTER,
    COUNT,
    ("signal", "result"),
    "Points of metrics and spans that were sent (success), and those of failed exports (failure). A span that failed "
    "is lost; metrics are sent as they stand at the next interval.",
)
LAST_EXPORT = Family(
    "tallykeep_telemetry_last_export_timestamp_seconds",
    Kind.GAUGE,
    TIMESTAMP,
    ("signal",),
    "Unix time at which the last successful export ended. Absent before the first.",
)

FAMILIES = (EXPORTS, ITEMS, LAST_EXPORT, *HOST)
