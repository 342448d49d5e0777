"""The commands of `tallykeep pulse`. What a command does is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from tallykeep.runtime.deferred import deferred

_SHOW = """
What the gateway did today, this week, this month. Asks the running tallykeep; where none answers, reads the history
file beside it, without changing it.
"""
_EXAMPLES = """examples:
  tallykeep pulse show
  tallykeep pulse show --json --url http://tallykeep.lan:8000

exit status:
  0  shown
  1  shown, but the last scrape or the last write failed: the figures are not of now
  2  wrong usage, or settings that cannot be used
  3  no answer, and no history file that can be read
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `parser`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    show = commands.add_parser("show", help="today, this week, this month", description=_SHOW, epilog=_EXAMPLES)
    show.add_argument("--json", action="store_true", help="print one JSON object, as GET /api/v1/metrics gives it")
    show.add_argument("--url", help="ask this address, such as http://localhost:8000, and nothing else")
    show.add_argument("--config", type=Path, metavar="FILE", help="tallykeep.yaml with the settings of pulse")
    show.set_defaults(run=deferred("tallykeep.systems.pulse.show:run_show"))
