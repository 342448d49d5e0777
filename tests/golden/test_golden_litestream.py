"""The whole page of a fixture world, as a file to be read: a change of any name, label, help or value shows here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.pages import compare_with_golden
from tests.support.prometheus import need_prometheus, promtool
from tests.support.replicas import FIXTURES
from tests.support.watching import Watch, file_target

from tallykeep.systems.litestream import drill
from tallykeep.systems.litestream.drill_result import DrillResult, LiveMatch
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.settings import LitestreamSettings

NOW = 1_795_224_600.0  # 17.674 s after the newest LTX file of the fixtures
GOLDEN = Path(__file__).with_name("litestream.prom")


@pytest.fixture
def drilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drills end as they do on the healthy fixture, at a time that is always the same."""

    async def run_drill(*args: object, **kwargs: object) -> DrillResult:
        return DrillResult("ok", txid=Txid(0x3B), finished=NOW + 30, duration=0.25, live=LiveMatch("matches", 20, 0))

    monkeypatch.setattr(drill, "run_drill", run_drill)


async def test_the_page_of_a_healthy_replica(tmp_path: Path, drilled: None) -> None:
    """Every family of the catalogue that a healthy replica has, with the values its files give."""
    shutil.copytree(FIXTURES / "local", tmp_path / "data")
    shutil.copytree(FIXTURES / "remote" / "healthy", tmp_path / "replica")
    target = file_target(tmp_path / "replica", tmp_path / "data" / ".omni.db-litestream" / "ltx")
    clock = FakeClock(NOW)
    async with Watch(LitestreamSettings(targets=(target,)), clock) as watch:
        await watch.until(lambda: looked_at(watch, NOW), "the first look")
        await clock.advance(60)
        await watch.until(lambda: looked_at(watch, NOW + 60) and swept(watch) == 43, "a second look, and a sweep")
        await clock.advance(60)
        await watch.until(lambda: looked_at(watch, NOW + 120), "a third look")
        page = watch.page().replace(str(tmp_path).encode(), b"/world")
    compare_with_golden(in_order(page), GOLDEN)


def in_order(page: bytes) -> bytes:
    """The page with each family's series sorted: threads decide which collector is the first to be counted."""
    blocks = page.decode().split("# HELP ")
    parts = (block.splitlines(keepends=True) for block in blocks[1:])
    return "".join("# HELP " + "".join([*lines[:2], *sorted(lines[2:])]) for lines in parts).encode()


def looked_at(watch: Watch, moment: float) -> bool:
    """Whether every collector's last success was at that moment."""
    ended = watch.series("tallykeep_collector_last_success_timestamp_seconds")
    return len(ended) == len(watch.series("tallykeep_collector_interval_seconds")) and set(ended.values()) == {moment}


def swept(watch: Watch) -> float | None:
    return watch.value("ops_litestream_verified_files_total")


@pytest.mark.server
def test_promtool_accepts_the_page() -> None:
    """`promtool check metrics` has nothing to say of any name, help or value."""
    need_prometheus()
    said = promtool("check", "metrics", stdin=GOLDEN.read_bytes())
    assert (said.returncode, said.stdout.decode()) == (0, "")
