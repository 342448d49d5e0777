"""Partitions that failed: looked for again in the cluster, and read on where they are now.

A leader may have moved, a topic gone or been made again, a log begun later or ended earlier than what was read.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallykeep.errors import SourceError, Unreachable
from tallykeep.systems.kafka.brokers import Brokers
from tallykeep.systems.kafka.cluster import Cluster, Topic
from tallykeep.systems.kafka.collecting import Reading
from tallykeep.systems.kafka.course import Course, is_out_of_range, replaced
from tallykeep.systems.kafka.histories import Question, diverged, lost, shortened
from tallykeep.systems.kafka.manifest import GapEntry
from tallykeep.systems.kafka.segment import NO_TOPIC_ID


async def recover(course: Course, cluster: Cluster, brokers: Brokers) -> None:
    """Bring back what failed, each when its time has come, until the run is over."""
    while not course.over:
        now = course.clock.monotonic()
        due = [each for each in course.due if each.moment <= now]
        if not due:
            following = min((each.moment for each in course.due), default=None)
            await course.change(None if following is None else max(following - now, 0.0))
            continue
        course.due = [each for each in course.due if each not in due]
        await _bring_back(course, cluster, brokers, [each.reading for each in due])


async def _bring_back(course: Course, cluster: Cluster, brokers: Brokers, readings: list[Reading]) -> None:
    try:
        topics = await cluster.topics()
    except SourceError as error:
        for reading in readings:
            course.fail(reading, error)
        return
    for reading in readings:
        try:
            await _one(course, cluster, brokers, reading, topics)
        except SourceError as error:
            course.fail(reading, error)


async def _one(
    course: Course, cluster: Cluster, brokers: Brokers, reading: Reading, topics: Mapping[str, Topic]
) -> None:
    """Raises: SourceErrors where it is not to be had yet."""
    topic = topics.get(reading.place.topic)
    if topic is None:
        raise Unreachable(f"topic {reading.place.topic!r} is not there any more.")
    if topic.topic_id != reading.incarnation.topic_id and NO_TOPIC_ID not in (
        topic.topic_id, reading.incarnation.topic_id,
    ):  # fmt: skip
        course.give_up(reading, replaced(topic.name))
        return
    reading.leader = next((info.leader for info in topic.partitions if info.number == reading.place.partition), -1)
    if reading.leader < 0:
        raise Unreachable(f"{reading.place} has no leader.")
    if reading.leader not in cluster.brokers:
        raise Unreachable(f"{reading.place} is led by broker {reading.leader}, which is not there.")
    if await _has_diverged(cluster, brokers, reading):
        course.give_up(reading, diverged(reading.incarnation))
    elif is_out_of_range(reading.error):
        await _locate(course, cluster, reading)
    else:
        course.queue(reading)


async def _has_diverged(cluster: Cluster, brokers: Brokers, reading: Reading) -> bool:
    """Whether who leads it now does not have what was read."""
    if reading.tail is None:
        return False
    question = Question(reading.place, reading.leader, reading.tail)
    return bool(await lost([question], cluster.brokers, brokers))


async def _locate(course: Course, cluster: Cluster, reading: Reading) -> None:
    """Its log does not have the offset that was asked for: it begins later now, or it ends before."""
    first = (await cluster.offsets([reading.place], "earliest"))[reading.place]
    end = (await cluster.offsets([reading.place], "latest"))[reading.place]
    if end < reading.collected:
        course.give_up(reading, shortened(reading.incarnation, end, reading.collected))
    elif first <= reading.collected:
        course.queue(reading)
    else:
        _skip(course, reading, min(first, reading.end))


def _skip(course: Course, reading: Reading, offset: int) -> None:
    """What lies before `offset` is gone: that is a gap, behind what had come."""
    gap = GapEntry(*reading.incarnation, reading.collected, offset, "log_start")
    course.shipping.take(reading, course.budget)
    course.shipping.note(reading, gap)
    reading.skip(offset)
    course.progress(reading)
    if offset >= reading.end:
        course.finish(reading)
    else:
        course.queue(reading)
