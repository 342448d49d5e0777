"""A receiver as a process of its own, to be killed: python -m tests.support.wal_receiver CONNINFO FOLDER [SLOT]."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.support.postgres_wal import KEY, Receiving

from tallykeep.systems.postgres.cipher import Cipher

if __name__ == "__main__":
    with Receiving(sys.argv[1], Path(sys.argv[2]), Cipher.from_key(KEY), *sys.argv[3:]):
        time.sleep(600)
