"""A partition by its name alone: where a cluster's client, a backup and a restore mean the same thing."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A partition of a topic, whatever incarnation of it there is."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"
