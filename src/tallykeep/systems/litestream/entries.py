"""Names of a target's entries in the state directory."""

from __future__ import annotations

import re
from hashlib import blake2b


def entry_name(kind: str, target: str) -> str:
    """Where the `kind` of state ("sweep", "drill") of a target is kept: readable, and unlike any other target's."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", target)[:40].strip("-")
    return f"litestream-{kind}-{readable}-{blake2b(target.encode(), digest_size=4).hexdigest()}"
