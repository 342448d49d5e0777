"""Settings of a topic that would spoil a restore, held off until the data is in.

Old records would be deleted or compacted while newer ones arrive, timestamps refused or replaced, batches compressed
anew. What they were is written down first (restore_state.py), so that they come back after a crash too.
Source: Apache Kafka, topic configurations; LogValidator.
"""

from __future__ import annotations

from collections.abc import Mapping

_ALWAYS = str((1 << 63) - 1)
_HELD = {
    "cleanup.policy": "delete",  # with retention off: nothing is deleted, nothing compacted
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.ms": _ALWAYS,  # a log rolls by the timestamps of records: those of 60 years make a file for each jump
    "compression.type": "producer",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": _ALWAYS,  # from 3.6 on
    "message.timestamp.after.max.ms": _ALWAYS,
    "message.timestamp.difference.max.ms": _ALWAYS,  # until 3.9
}
DEFAULT_LARGEST = 1048588  # max.message.bytes where nothing else is said
_SOMETIMES = ("min.insync.replicas", "max.message.bytes")
_OF_A_CLUSTER = ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas")


def held_settings(effective: Mapping[str, str], replicas: int, largest: int = 0) -> dict[str, str]:
    """What has to be set on a topic with these settings; nothing that its brokers do not know.

    `replicas`: of the topic; `largest`: bytes of a batch that has to pass, where the topic is ours.
    """
    wanted = {name: value for name, value in _HELD.items() if effective.get(name, value) != value}
    if int(effective.get("min.insync.replicas", "1")) > replicas:
        wanted["min.insync.replicas"] = str(replicas)
    if largest > int(effective.get("max.message.bytes", largest)):
        wanted["max.message.bytes"] = str(largest)
    return wanted


def at_creation(configs: Mapping[str, str]) -> dict[str, str]:
    """The settings that a topic of a backup is made with: its own, but for those that name the brokers of a cluster."""
    return {name: value for name, value in configs.items() if name not in _OF_A_CLUSTER}


def put_back(own: Mapping[str, str]) -> dict[str, str | None]:
    """What is to be at the end of every setting that may be held off: its `own` value, or None for none."""
    return {name: own.get(name) for name in (*_HELD, *_SOMETIMES)}


def changes(wanted: Mapping[str, str | None], own: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What has to be set and what unset on a topic with those settings of its own, to get there."""
    setting = {name: value for name, value in wanted.items() if value is not None and own.get(name) != value}
    return setting, [name for name, value in wanted.items() if value is None and name in own]
