"""What `tallykeep postgres drill` takes. What it does is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_DRILL = """
Restore for practice, and throw it away: from tier 2 alone, with nothing cached and the key read anew from the recovery
file (from tier 1 where there is no tier 2), into a scratch folder. PostgreSQL is started there, on no network, and
recovers to the newest point; pg_amcheck looks at every table and index, the questions of the settings are asked, and
every page checksum is proved. Prints how long a recovery takes, and how far it comes.
"""
_EXAMPLES = """examples:
  tallykeep postgres drill
  tallykeep postgres drill --key-file /mnt/usb/recovery.key
  tallykeep postgres drill --tier 1 --json | jq .[0].recovery_time_seconds

exit status:
  0    ok: restored, recovered to the newest point, and nothing was found
  1    failed: a restore would not give back what was promised
  2    wrong usage, or settings that cannot be used
  3    inconclusive: it could not be carried through, and nothing was shown to be wrong
  130  interrupted by Ctrl-C
"""


def add_drill(commands: SubParsers) -> None:
    """Add the command."""
    from tallykeep.systems.postgres.cli import command, common

    parser = command(commands, "drill", "restore for practice, examine, throw away", _DRILL, _EXAMPLES)
    common(parser, "drilling.commands:run_drill")
    parser.add_argument("--tier", choices=("cold", "1", "2"), help="what to restore from (default: drill.tier)")
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help="the recovery file to prove (default: drill.recovery_file)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the restored cluster in the scratch folder")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
