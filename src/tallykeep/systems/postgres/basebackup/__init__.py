"""Base backups: asked for over the replication protocol, taken apart into files, and put together again."""
