"""How Python's garbage collector is set for a process that stays.

Memory is freed by reference counts; the collector finds cycles only, and stops every thread while it looks. Left as
it is, a listing of 100,000 objects sets off collections of everything there is, 0.1 to 0.5 s each, in which no
scrape is answered.
Source: Python, gc.freeze and gc.set_threshold.
"""

from __future__ import annotations

import gc

_YOUNG = 10_000  # new objects that set off a look at the youngest, which takes a millisecond
_MIDDLE = 5  # such looks that set off one at the next generation
_OLD = 1000  # looks at that one before everything is looked at, if there is a quarter more of it


def collect_rarely() -> None:
    """Take all that was made so far out of the collector's sight, and let it look at long-lived objects seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
