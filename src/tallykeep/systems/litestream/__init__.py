"""Litestream: is the replica restorable, and how much would be lost."""
