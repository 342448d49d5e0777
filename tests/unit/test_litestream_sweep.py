"""The sweep: so many bytes an interval, plan files first, each once, remembered over restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.damage import damaged, key
from tests.support.stores import Failing, Vanishing, Wrapped

from tallykeep.errors import Unavailable
from tallykeep.runtime.state import StateDirectory
from tallykeep.storage.local import LocalStore
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.drilling import list_inventory
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.known import Listed
from tallykeep.systems.litestream.sweep import CORRUPT_AGAIN, Sweep

DAY = 86400.0
PLENTY = 1 << 30


class Scene:
    """A replica, its findings and a sweep over them."""

    def __init__(self, store: Store, *, budget: int = PLENTY, state: StateDirectory | None = None) -> None:
        self.store = store
        self.clock = FakeClock()
        self.findings = Findings()
        self.state = state or StateDirectory.in_memory()
        self.checked: list[str] = []
        self.sweep = Sweep(
            "app", store, self.findings, self.state, self.clock, budget=budget, interval=60.0, again=7 * DAY,
            on_checked=lambda checked: self.checked.append(checked.file.key),
        )  # fmt: skip

    async def look(self) -> None:
        self.findings.look(Listed.of(await list_inventory(self.store)))

    async def step(self) -> list[str]:
        """List, sweep once, and say which files were read to their end."""
        before = len(self.checked)
        await self.look()
        await self.sweep.step()
        return self.checked[before:]

    def planned(self) -> list[str]:
        assert self.findings.plan is not None
        return [file.key for file in self.findings.plan.files]


def scene(case: str, tmp_path: Path, budget: int = PLENTY) -> Scene:
    return Scene(LocalStore(damaged(case, tmp_path / case)), budget=budget)


async def test_plan_first_then_each_once(tmp_path: Path) -> None:
    """Files of the plan are read first, then the others, and none a second time."""
    healthy = scene("healthy", tmp_path)
    read = await healthy.step()
    assert read[:7] == healthy.planned()
    assert len(read) == len(set(read)) == 43
    assert await healthy.step() == []
    assert (healthy.findings.sweep_result, healthy.findings.unverified_files) == ("sound", 0)


async def test_budget(tmp_path: Path) -> None:
    """A step reads no more than its budget and one file, and the next goes on where it stopped."""
    small = scene("healthy", tmp_path, budget=5000)
    read: list[str] = []
    steps = 0
    while small.findings.unverified_files or not steps:
        read += await small.step()
        steps += 1
    assert len(read) == len(set(read)) == 43
    assert 8 <= steps <= 11
    assert small.findings.sweep_result == "sound"


async def test_unknown_until_the_plan_is_read(tmp_path: Path) -> None:
    """The result is unknown until every file of the plan has been read."""
    small = scene("healthy", tmp_path, budget=2000)
    await small.step()
    assert small.findings.sweep_result == "unknown"
    assert small.findings.cover is None


@pytest.mark.parametrize(
    ("case", "result", "reason"),
    [("truncated", "corrupt", "truncated"), ("flip-page", "corrupt", "checksum"), ("flip-unused", "sound", "checksum"),
     ("zero-byte", "corrupt", "too_small"), ("renamed", "corrupt", "header_name_mismatch")],
)  # fmt: skip
async def test_corruption(case: str, result: str, reason: str, tmp_path: Path) -> None:
    """Corrupt files are counted by level and reason; the result speaks of those in the plan."""
    found = scene(case, tmp_path)
    await found.step()
    assert found.findings.sweep_result == result
    known = found.findings.known()
    assert known is not None
    assert [(count.reason, count.files) for count in known.corrupt_counts()] == [(reason, 1)]


async def test_missing_pages(tmp_path: Path) -> None:
    """Pages that no file of the plan has are found once the plan is read."""
    found = scene("missing-pages", tmp_path)
    await found.step()
    assert found.findings.cover is not None
    assert list(found.findings.cover.missing) == [12, 13, 14]


async def test_a_corrupt_file_leaves_with_its_object(tmp_path: Path) -> None:
    """A corrupt file stays listed until the object goes, or is written anew and read again."""
    found = scene("truncated", tmp_path)
    await found.step()
    (corrupt,) = found.findings.evidence().corrupt
    await found.store.replace(corrupt, (tmp_path / "truncated" / key(3, 1, 5)).read_bytes())
    await found.step()
    assert found.findings.evidence().corrupt == {corrupt: "header_name_mismatch"}
    await found.store.delete(corrupt)
    await found.look()
    assert not found.findings.evidence().corrupt


async def test_read_again_when_due(tmp_path: Path) -> None:
    """A sound file is read again after a week, a corrupt one after an hour."""
    found = scene("flip-unused", tmp_path)
    await found.step()
    await found.clock.advance(CORRUPT_AGAIN + 1)
    assert await found.step() == [key(1, 3, 5)]
    await found.clock.advance(7 * DAY)
    assert len(await found.step()) == 43


async def test_survives_a_restart(tmp_path: Path) -> None:
    """After a restart nothing is read again but page indexes of the plan, and the findings stand."""
    with_state = StateDirectory.open(tmp_path / "state")
    first = Scene(LocalStore(damaged("flip-unused", tmp_path / "r")), state=with_state)
    await first.step()
    with_state.close()

    state = StateDirectory.open(tmp_path / "state")
    store = Wrapped(LocalStore(tmp_path / "r"))
    second = Scene(store, state=state)
    await second.sweep.load()
    assert await second.step() == []
    assert sorted(set(store.read_keys)) == sorted(second.planned())
    assert second.findings.evidence().corrupt == {key(1, 3, 5): "checksum"}
    assert second.findings.sweep_result == "sound"
    assert second.findings.cover is not None
    state.close()


async def test_hostile_state_is_forgotten(tmp_path: Path) -> None:
    """State that does not parse is no reason to stop: everything is read again."""
    for junk in (b"", b"junk", b"(\xb5/\xfd\x00"):
        found = scene("healthy", tmp_path / junk.hex())
        found.state.write(found.sweep._entry, junk)
        await found.sweep.load()
        assert len(await found.step()) == 43


async def test_state_is_bounded_by_what_is_listed(tmp_path: Path) -> None:
    """What is no longer listed is no longer remembered."""
    found = scene("healthy", tmp_path)
    await found.step()
    for name in [name for name in found.checked if name.startswith("0001/")]:
        await found.store.delete(name)
    await found.look()
    assert len(found.findings.read) == len(found.findings.listed) == 23


async def test_vanishing_files_are_skipped(tmp_path: Path) -> None:
    """Files that retention takes between listing and reading are counted, and are no damage."""
    store = Vanishing(LocalStore(damaged("healthy", tmp_path / "r")), lambda name: name.startswith("0000/"))
    found = Scene(store)
    await found.step()
    assert found.sweep.vanished == 14
    assert not found.findings.corrupt
    await found.step()
    assert found.findings.unverified_files == 0


async def test_an_unreachable_store_keeps_what_was_found(tmp_path: Path) -> None:
    """When reads begin to fail, the step ends with the error, and what was read before is remembered."""
    store = Failing(LocalStore(damaged("healthy", tmp_path / "r")), Unavailable("gone"), after=10)
    found = Scene(store)
    with pytest.raises(Unavailable):
        await found.step()
    assert len(found.findings.read) == 10
    assert found.state.read(found.sweep._entry) is not None
    store.error = None
    assert len(await found.step()) == 33


async def test_large_files_are_slowed_to_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many chunks is read at the budget's rate: the clock must pass for it."""
    monkeypatch.setattr("tallykeep.systems.litestream.verifying.CHUNK", 50)
    found = scene("healthy", tmp_path, budget=100)
    await found.look()
    started = found.clock.monotonic()
    step = asyncio.create_task(found.sweep.step())
    while not step.done():
        await found.clock.advance(10)
        await asyncio.sleep(0.002)
    (name,) = found.checked
    size = next(file.size for file in found.findings.listed.values() if file.key == name)
    assert found.clock.monotonic() - started >= (size - 200) / 100 * 60
