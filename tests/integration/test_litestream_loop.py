"""What the event loop is spared, so that a scrape is answered in milliseconds while large replicas are looked at."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.damage import encode
from tests.support.replicas import ltx_name
from tests.support.watching import Watch

from tallykeep.runtime.collecting import collect_rarely
from tallykeep.systems.litestream import collector, known, listing, plan, verdict
from tallykeep.systems.litestream.settings import DrillSettings, LitestreamSettings, SweepSettings, TargetSettings
from tallykeep.systems.litestream.urls import file_replica

FILES = 300


def many(root: Path) -> Path:
    """A replica of FILES files of level 0, one page each, all of them in the plan."""
    folder = root / "ltx" / "0"
    folder.mkdir(parents=True)
    for txid in range(1, FILES + 1):
        words = b"".join(word.to_bytes(4, "big") for word in (2, 512, 1))
        header = b"LTX1" + words + txid.to_bytes(8, "big") * 2 + bytes(68)
        (folder / ltx_name(txid)).write_bytes(encode(header, [(1, bytes(512))]))
    return root


async def test_walks_over_a_listing_are_made_in_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans, identities, verdicts and reaches of a whole listing are reckoned off the loop, at every collection."""
    here, on_loop, off_loop = threading.current_thread(), Counter[str](), Counter[str]()

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            (on_loop if threading.current_thread() is here else off_loop)[function.__name__] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(known, "identity", noted(known.identity))
    monkeypatch.setattr(known, "make_plan", noted(plan.make_plan))
    for module in (listing, collector):
        monkeypatch.setattr(module, "find_reach", noted(plan.find_reach))
    monkeypatch.setattr(collector, "judge", noted(verdict.judge))
    settings = LitestreamSettings(
        interval=0.2, timeout=60.0, targets=(TargetSettings("default", replica=file_replica(many(tmp_path))),),
        sweep=SweepSettings(bytes=1 << 20), drill=DrillSettings(every=0),
    )  # fmt: skip
    async with Watch(settings) as watch:
        await watch.until(lambda: watch.state("ops_litestream_sweep_result") == "sound", "the sweep")
        await watch.until(lambda: off_loop["judge"] > 2, "three verdicts")
    assert not on_loop
    assert off_loop["identity"] > FILES
    assert off_loop["make_plan"] and off_loop["find_reach"]


@pytest.fixture
def _collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("_collector")
def test_old_objects_are_seldom_collected() -> None:
    """Making 200,000 lasting objects sets off no collection of everything there is."""
    collect_rarely()
    before = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(200_000)]
    assert gc.get_stats()[2]["collections"] == before
    assert gc.get_freeze_count() > 0
    assert len(kept) == 200_000
