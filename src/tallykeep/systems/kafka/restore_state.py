"""What a restore must not forget: written before it does what it says, so that a crash at any moment is gone on from.

One entry of a state directory, replaced whole. It says which topics are made or have settings held off (and what they
were before), at which offset each target partition began, and under which producer ids it is written to. How far the
restore has come is not in it: the ends of the target's partitions tell that, and cannot be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tallykeep.errors import IntegrityError
from tallykeep.runtime.state import StateDirectory
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.places import Place
from tallykeep.systems.kafka.restoring.outgoing import Stint

FORMAT = "KRB1 restore"
MAP = "offset-map.json"

Phase = Literal["intended", "begun", "data_in", "verified", "put_back", "complete"]
_PHASES: tuple[Phase, ...] = ("intended", "begun", "data_in", "verified", "put_back", "complete")


@dataclass(slots=True)
class TopicState:
    """A topic of the target, and what is done to it for the time of the restore."""

    name: str
    create: bool  # it did not exist
    put_back: dict[str, str | None]  # settings of the topic as they are to be at the end; None: not set
    largest: int = 0  # bytes of a batch that it takes; batches are split by it, so it stays the same
    topic_id: str = ""  # known once it is there


@dataclass(slots=True)
class PartitionState:
    """A target partition."""

    place: Place
    stints: list[Stint]  # the first begins where the restore does


@dataclass(slots=True)
class RestoreState:
    """All of it."""

    restore: str  # id of what is restored from where to where; the same when it is asked for again
    run: str  # id of this restore of it
    sequence: int  # the backup's records up to here are restored, and none that came later
    phase: Phase = "intended"
    topics: dict[str, TopicState] = field(default_factory=dict)
    partitions: dict[Place, PartitionState] = field(default_factory=dict)

    def has(self, phase: Phase) -> bool:
        """Whether it has come as far as that."""
        return _PHASES.index(self.phase) >= _PHASES.index(phase)

    def encode(self) -> bytes:
        """The entry."""
        body = {
            "format": FORMAT, "restore": self.restore, "run": self.run, "sequence": self.sequence,
            "phase": self.phase, "topics": [asdict(topic) for topic in self.topics.values()],
            "partitions": [[state.place, state.stints] for state in self.partitions.values()],
        }  # fmt: skip
        return json.dumps(body, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes, name: str) -> RestoreState:
        """The state in `data`; `name` is for messages. Raises: IntegrityError."""
        try:
            return cls._decode(json.loads(data))
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{name}: not the state of a restore, or not as it was written: {error}") from None

    @classmethod
    def _decode(cls, body: Mapping[str, Any]) -> RestoreState:
        if body["format"] != FORMAT or body["phase"] not in _PHASES:
            raise ValueError(f"its format is {body['format']!r}, its phase {body['phase']!r}")
        topics = {topic["name"]: TopicState(**topic) for topic in body["topics"]}
        partitions = {}
        for place, stints in body["partitions"]:
            partitions[Place(*place)] = PartitionState(Place(*place), [Stint(*stint) for stint in stints])
        return cls(body["restore"], body["run"], body["sequence"], body["phase"], topics, partitions)


class StateFolder:
    """The states of restores in one folder, held by one process as long as the context lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory: StateDirectory | None = None

    async def __aenter__(self) -> StateFolder:
        """Raises: ConfigError where another process holds it; Denied; Unavailable."""
        self._directory = await in_thread(StateDirectory.open, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._directory:
            await in_thread(self._directory.close)

    async def load(self, restore: str) -> RestoreState | None:
        """The state of that restore, unless it is complete or never began. Raises: IntegrityError."""
        data = await in_thread(self._open.read, _entry(restore))
        if data is None:
            return None
        state = RestoreState.decode(data, str(self._path / _entry(restore)))
        return None if state.phase == "complete" else state

    async def save(self, state: RestoreState) -> None:
        """Durable on return."""
        await in_thread(self._open.write, _entry(state.restore), state.encode())

    async def save_map(self, state: RestoreState, data: bytes) -> None:
        """Keep the offset map of a restore whose data is in."""
        await in_thread(self._open.write, _map_entry(state), data)

    async def load_map(self, state: RestoreState) -> tuple[Path, bytes]:
        """The map that was kept, and where it lies as the newest one. Raises: IntegrityError where it is gone."""
        data = await in_thread(self._open.read, _map_entry(state))
        if data is None:
            raise IntegrityError(
                f"{self._path / _map_entry(state)} is gone: the offsets of this restore are not known."
            )
        await in_thread(self._open.write, MAP, data)
        return self._path / MAP, data

    @property
    def _open(self) -> StateDirectory:
        assert self._directory is not None, "not entered"
        return self._directory


def _map_entry(state: RestoreState) -> str:
    return f"offset-map-{state.run}.json"


def _entry(restore: str) -> str:
    return f"restore-{restore}.json"
