"""Consumer groups after a restore: where each goes on by the offset map, set in the target and read back.

A group goes on at exactly the next record that it had not read. Nothing is set for a group that has members: Kafka
would refuse it, or they would overwrite it. Partitions that were not restored are left as they are, and named.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeVar

from tallykeep.clock import Clock
from tallykeep.errors import RestoreError, SourceError, TallykeepError
from tallykeep.systems.kafka.cluster import Cluster, Committed
from tallykeep.systems.kafka.offset_map import OffsetMap
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.restoring.tasks import at_once, patiently
from tallykeep.systems.kafka.selecting import is_pattern, matches
from tallykeep.systems.kafka.snapshot import Snapshot, SnapshotGroup

_PATIENCE = 30.0  # seconds: a new cluster makes its topic of offsets when the first group asks for it
_AT_ONCE = 8  # groups
T = TypeVar("T")
_IDLE = ("Empty", "Dead")  # states in which a group has no members


class OffsetResetFailed(RestoreError):
    """Offsets of consumer groups that could not be set, or not all of them."""

    code = "offset_reset"
    published_code = "OFFSET_RESET_FAILED"


class WrongCluster(RestoreError):
    """The map says where records are in another cluster."""

    published_code = "OFFSET_MAPPING_MISSING"


class Figures(Protocol):
    """What is told of it: figures.ResetFigures."""

    def reset(self, group: str, place: Place, seconds: float, status: Literal["success", "failure"]) -> None: ...
    def finished(self, group: str, seconds: float, status: Literal["success", "failure"]) -> None: ...
    def failed(self, error: TallykeepError) -> None: ...


class Move(NamedTuple):
    """One partition of a group."""

    source: Place
    source_offset: int  # of the next record it would have read
    target: Place
    target_offset: int  # of the same record now
    metadata: str = ""  # what the group had noted with its offset


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """Where one group goes on."""

    group: str
    moves: Sequence[Move]
    left: Sequence[Place] = ()  # it had offsets there, and they were not restored


@dataclass(frozen=True, slots=True)
class OffsetPlan:
    """Where all groups go on."""

    groups: Sequence[GroupPlan]
    missing: Sequence[str] = ()  # asked for by name, and not in the snapshot
    target_cluster: str = ""  # the id of the cluster that the map speaks of; empty: not known
    backup: str = ""
    restore: str = ""


@dataclass(slots=True)
class GroupOutcome:
    """What has come of one group. Nothing is done, or everything, where Kafka takes part."""

    group: str
    done: list[Move] = field(default_factory=list)  # set and read back
    before: dict[Place, int] = field(default_factory=dict)  # what was committed in the target until then
    failed: dict[Place, str] = field(default_factory=dict)  # why not
    problem: str = ""  # with the whole group

    @property
    def ok(self) -> bool:
        """Whether everything that was planned holds."""
        return not self.problem and not self.failed


def plan_groups(snapshot: Snapshot, offset_map: OffsetMap, wanted: Sequence[str] = ()) -> OffsetPlan:
    """Where the groups of `snapshot` go on by the map. Pure.

    `wanted`: names, globs, ~regexes; none: every group that has committed anything.
    """
    chosen = matches(wanted or ("*",))
    groups = [_plan(group, offset_map) for group in snapshot.groups if chosen(group.name) and group.offsets]
    known = {group.name for group in snapshot.groups}
    missing = [name for name in wanted if not is_pattern(name) and name not in known]
    return OffsetPlan(groups, missing, offset_map.target_cluster, offset_map.backup, offset_map.restore)


async def apply_plan(
    cluster: Cluster, plan: OffsetPlan, clock: Clock, figures: Figures, *, dry_run: bool = False
) -> list[GroupOutcome]:
    """Set the offsets, and read them back. With `dry_run` everything is looked at and nothing is set.

    Every group is tried; what went wrong stands in its outcome. Raises: WrongCluster; SourceErrors where the cluster
    cannot be asked at all.
    """
    if plan.target_cluster and plan.target_cluster != cluster.cluster_id:
        raise WrongCluster(
            f"{cluster.name} is cluster {cluster.cluster_id}, and restore {plan.restore} went to cluster "
            f"{plan.target_cluster}: its offsets mean nothing here. Name that cluster as the target."
        )
    bounds = await _bounds(cluster, plan)
    work = (_Reset(cluster, group, bounds, clock, figures, dry_run=dry_run).run() for group in plan.groups)
    outcomes = await at_once(work, _AT_ONCE)
    absent = [GroupOutcome(name, problem="it is not among the groups that were saved") for name in plan.missing]
    return [*outcomes, *absent]


def check_outcomes(outcomes: Iterable[GroupOutcome]) -> None:
    """Raises: OffsetResetFailed, with a line for each group, where not everything was set."""
    if bad := [outcome for outcome in outcomes if not outcome.ok]:
        raise OffsetResetFailed("\n".join(line for outcome in bad for line in problems(outcome)))


def problems(outcome: GroupOutcome) -> list[str]:
    """What went wrong with a group, in words."""
    whole = [f"group {outcome.group}: {outcome.problem}"] if outcome.problem else []
    return whole + [f"group {outcome.group}, {place}: {why}" for place, why in sorted(outcome.failed.items())]


def _plan(group: SnapshotGroup, offset_map: OffsetMap) -> GroupPlan:
    moves: dict[Place, Move] = {}
    left = []
    for topic, partition, offset, metadata, _ in group.offsets:
        source = Place(topic, partition)
        target = offset_map.target(source)
        if target is None:
            left.append(source)
            continue
        move = Move(source, offset, target, offset_map.translate(source, offset), metadata)
        before = moves.setdefault(target, move)
        moves[target] = min(before, move, key=lambda one: one.target_offset)  # of two in one, nothing is passed over
    return GroupPlan(group.name, list(moves.values()), left)


async def _bounds(cluster: Cluster, plan: OffsetPlan) -> dict[Place, tuple[int, int]]:
    """First offset and end of every partition that the plan speaks of and the cluster has."""
    wanted = {move.target for group in plan.groups for move in group.moves}
    topics = await cluster.topics()
    there = {Place(name, part.number) for name, topic in topics.items() for part in topic.partitions}
    places = sorted(wanted & there)
    first, last = await cluster.offsets(places, "earliest"), await cluster.offsets(places, "latest")
    return {place: (first[place], last[place]) for place in places}


class _Reset:
    """One group being set."""

    def __init__(
        self, cluster: Cluster, plan: GroupPlan, bounds: Mapping[Place, tuple[int, int]], clock: Clock,
        figures: Figures, *, dry_run: bool,
    ) -> None:  # fmt: skip
        self._cluster, self._plan, self._bounds = cluster, plan, bounds
        self._clock, self._figures, self._dry_run = clock, figures, dry_run
        self._outcome = GroupOutcome(plan.group)

    async def run(self) -> GroupOutcome:
        started = self._clock.monotonic()
        try:
            await self._set()
        except SourceError as error:
            self._outcome.problem = str(error)
            if not self._dry_run:
                self._figures.failed(error)
        else:
            if not self._outcome.ok and not self._dry_run:
                self._figures.failed(OffsetResetFailed("\n".join(problems(self._outcome))))
        if not self._dry_run:
            self._report(self._clock.monotonic() - started)
        return self._outcome

    async def _set(self) -> None:
        outcome, name = self._outcome, self._plan.group
        group = await self._patiently(lambda: self._cluster.group(name))
        if group.state not in _IDLE:
            outcome.problem = (
                f"it is active in the target ({group.state}, {group.members} members): stop its consumers, then set it "
                "by `tallykeep kafka offsets apply`."
            )
            return
        there = await self._patiently(lambda: self._cluster.group_offsets(name))
        places = {move.target for move in self._plan.moves}
        outcome.before = {place: one.offset for place, one in there.items() if place in places}
        outcome.failed = {move.target: why for move in self._plan.moves if (why := self._impossible(move))}
        moves = [move for move in self._plan.moves if move.target not in outcome.failed]
        if not moves or self._dry_run:
            return
        wanted = {move.target: Committed(move.target_offset, move.metadata) for move in moves}
        answers = await self._patiently(lambda: self._cluster.commit_offsets(name, wanted))
        outcome.failed |= {place: why for place, why in answers.items() if why}
        await self._read_back(moves)

    async def _read_back(self, moves: Sequence[Move]) -> None:
        """What is committed now is what counts, whatever was answered."""
        now = await self._patiently(lambda: self._cluster.group_offsets(self._plan.group))
        for move in moves:
            found = now.get(move.target)
            if found is not None and found.offset == move.target_offset:
                self._outcome.failed.pop(move.target, None)
                self._outcome.done.append(move)
            else:
                was = "nothing" if found is None else f"offset {found.offset}"
                self._outcome.failed.setdefault(move.target, f"set to {move.target_offset}, and {was} is read back")

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._clock, _PATIENCE, work)

    def _impossible(self, move: Move) -> str:
        """Why no consumer could go on there: it would fall back to auto.offset.reset."""
        bounds = self._bounds.get(move.target)
        if bounds is None:
            return "the target has no such partition (any more)"
        first, last = bounds
        if first <= move.target_offset <= last:
            return ""
        return (
            f"offset {move.target_offset} is not in its log any more, which has {first} to {last}: "
            "the topic has changed since the restore"
        )

    def _report(self, seconds: float) -> None:
        name, outcome = self._plan.group, self._outcome
        done = {move.target for move in outcome.done}
        for move in self._plan.moves:
            self._figures.reset(name, move.target, seconds, "success" if move.target in done else "failure")
        self._figures.finished(name, seconds, "success" if outcome.ok else "failure")
