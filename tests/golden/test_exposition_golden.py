"""Every surface of one small world, each in one file: a change of any byte is seen in review."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.listening import AGE, WORLD, World, looked
from tests.support.pages import compare_with_golden

from tallykeep.exposition.page import Format, Renderer
from tallykeep.exposition.reference import metrics_reference
from tallykeep.exposition.rules import alert_rules
from tallykeep.metrics import Catalogue

HERE = Path(__file__).parent


@pytest.mark.parametrize(("format", "name"), [(Format.TEXT, "page.txt"), (Format.OPENMETRICS, "page.openmetrics.txt")])
def test_the_page(format: Format, name: str) -> None:
    """Two databases, one of them silent since its collector failed."""
    clock = FakeClock()
    world = World(clock=clock)
    world.publish(*looked("orders"), AGE(clock.time() - 90), target="orders")
    world.publish(*looked("users"), target="users")
    world.board.fail("fake", "users")
    page = Renderer(Catalogue(WORLD)).render(world.board.snapshots(), format, clock.time()).data
    compare_with_golden(page, HERE / "exposition" / name)


def test_the_reference_page() -> None:
    """The docs page of the same families, with units, states, buckets and alerts."""
    compare_with_golden(metrics_reference({"fake": WORLD}).encode(), HERE / "exposition" / "reference.md")


def test_the_rules() -> None:
    """The alert rules of the same families; a group without alerts is left out."""
    rules = alert_rules({"fake": WORLD, "silent": (AGE,)})
    compare_with_golden(rules.encode(), HERE / "exposition" / "rules.yml")
