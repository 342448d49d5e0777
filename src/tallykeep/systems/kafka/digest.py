"""The hash of an object: see storage/digest.py."""

from tallykeep.storage.digest import check_digest, digest

__all__ = ["check_digest", "digest"]
