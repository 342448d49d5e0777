"""The log: lines for people, or one JSON object a line, on standard error.

What a message is about stands in its `extra` (collector, target, code) and becomes fields of the JSON form; for
people the sentence itself says it. Secrets are of a type whose text is ****, in either form.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

from tallykeep.units import format_timestamp

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class HumanFormatter(logging.Formatter):
    """2026-11-21T09:30:00.000Z warning: what happened"""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{format_timestamp(record.created)} {record.levelname.lower()}: {text}"


class JsonFormatter(logging.Formatter):
    """{"time": ..., "level": ..., "logger": ..., "message": ..., and the fields of extra}"""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": format_timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD and key not in fields}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


def configure(level: str = "info", form: str = "human", stream: TextIO | None = None) -> None:
    """Send every logger's messages from `level` up to `stream` (standard error), in place of earlier settings."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else HumanFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, root.level))
