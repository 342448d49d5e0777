"""Named steps of a run: the places at which a test may end the process, as a power cut would.

Nothing happens at them otherwise. `TALLYKEEP_KILL_AT=NAME:N` in the environment of a test's child process ends it with
SIGKILL at the N-th time that the step is reached; the tests do so at every step there is, and resume.
"""

from __future__ import annotations

import os
import signal
from typing import Literal

Step = Literal[
    "opened",  # the chain has been read
    "fenced",  # this writer's fence is in the chain
    "cut",  # groups and ends have been read
    "snapshot stored",
    "snapshot committed",  # with it where partitions begin, and what was gone before
    "fetched",  # an answer came
    "sealed",  # a segment is whole, in memory
    "object stored",  # one of the two objects of a segment is durable
    "stored",  # both objects of a segment are durable
    "to be committed",  # segments are to be named by a record
    "committed",  # the record is durable
    "reached",  # every partition has come to the cut, and all is committed
    "completed",  # the run's last record is durable
]
RestoreStep = Literal[
    "restore intended",  # what will be done to the topics is written down
    "restore topic made",
    "restore settings held",
    "restore begun",  # offsets and producer ids are written down; nothing is sent
    "restore request sent",  # is about to be
    "restore request answered",
    "restore renewed",  # new producer ids are written down, where old ones were forgotten
    "restore sent",  # everything is acknowledged
    "restore data_in",  # and written down as such
    "restore verified",
    "restore settings back",
    "restore put_back",
    "restore map stored",
    "restore complete",
]
VARIABLE = "TALLYKEEP_KILL_AT"


class _Countdown:
    """What the environment asks for."""

    def __init__(self, wanted: str) -> None:
        self.name, _, times = wanted.partition(":")
        self.left = int(times or 1) if wanted else 0


_countdown = _Countdown(os.environ.get(VARIABLE, ""))


def reached(step: Step | RestoreStep) -> None:
    """Note that a run has come to `step`."""
    if _countdown.left and step == _countdown.name:
        _countdown.left -= 1
        if not _countdown.left:
            os.kill(os.getpid(), signal.SIGKILL)
