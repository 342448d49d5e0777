"""The runtime's door to tallykeep.threads, which lies below storage so that a folder's reads are watched too."""

from tallykeep.threads import in_thread, threads_noted

__all__ = ["in_thread", "threads_noted"]
