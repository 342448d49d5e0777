"""Bringing a cluster back: which backup, its files, its recovery settings, and WAL while it recovers."""
