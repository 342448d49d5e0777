"""The demo's last act: a topic is backed up, deleted, restored and compared, by the commands that people use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tallykeep.demo.kafka import TOPIC, Done, KafkaWorld
from tallykeep.demo.summary import Outcome, Summary
from tallykeep.units import format_bytes, format_duration


def play_kafka(kafka: KafkaWorld, summary: Summary, say: Callable[[str], None]) -> str:
    """Play it; a line for people of what it came to."""
    act = _Act(say)
    saved = summary.expect("Kafka: topic orders backed up to S3, to its last record")
    sound = summary.expect("Kafka: validate --deep reads every byte of the backup and finds it sound")
    back = summary.expect("Kafka: the topic deleted and restored")
    same = summary.expect("Kafka: an ordinary consumer finds every order again, in the same order")
    first = act.run(kafka, saved, "backup")
    sent = kafka.stop_producing()
    second = act.run(kafka, saved, "backup") if first else None
    count = sum(map(len, sent.values()))
    if second is None or first is None or first["records"] + second["records"] != count:
        saved.after = None
        return ""
    if act.run(kafka, sound, "validate", "--deep") is None:
        return ""
    kafka.delete()
    say(f"The topic {TOPIC} is deleted: {count:,} orders are gone.")
    restored = act.run(kafka, back, "restore")
    if restored is None:
        return ""
    begun = time.monotonic()
    if kafka.read() == sent:
        same.after = time.monotonic() - begun
        say(same.what)
    size = format_bytes(first["bytes"] + second["bytes"])
    return (
        f"{first['records']:,} and {second['records']:,} records backed up in two runs, {size}; "
        f"{restored['records']:,} restored in {format_duration(restored['seconds'])}"
    )


class _Act:
    """Runs commands, and marks what they were to show."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def run(self, kafka: KafkaWorld, outcome: Outcome, *words: str) -> Mapping[str, Any] | None:
        """What the command told; None where it failed."""
        begun = time.monotonic()
        done: Done = kafka.command(*words)
        if done.status:
            outcome.detail = f"tallykeep kafka {' '.join(words)} ended with {done.status}: {done.said}"
            outcome.after = None
            return None
        outcome.after = (outcome.after or 0.0) + time.monotonic() - begun
        self._say(f"tallykeep kafka {' '.join(words)}: done")
        return done.told
