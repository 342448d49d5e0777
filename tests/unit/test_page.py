from __future__ import annotations

import gc
import weakref

from tallykeep.exposition.lines import Writer
from tallykeep.exposition.page import Format, Renderer
from tallykeep.metrics import Catalogue, Family, Kind, Sample, Snapshot
from tallykeep.units import COUNT, SECONDS

FILES = Family("files", Kind.GAUGE, COUNT, ("level",), "Files.")
AGE = Family("age_seconds", Kind.GAUGE, SECONDS, (), "Age.", age=True)
OTHER = Family("other", Kind.GAUGE, COUNT, (), "Other.")
EMPTY = Family("empty", Kind.GAUGE, COUNT, (), "Nothing.")


def snapshot(*samples: Sample) -> Snapshot:
    return Snapshot("c", "t", samples, 0.0)


def render(*snapshots: Snapshot, now: float = 0.0, format: Format = Format.TEXT) -> str:
    return Renderer(Catalogue((FILES, AGE, EMPTY, OTHER))).render(snapshots, format, now).data.decode()


def test_a_family_of_several_snapshots_stands_together() -> None:
    """Catalogue order, one announcement a family, none for a family without samples."""
    page = render(snapshot(OTHER(1), FILES(1, level="0")), snapshot(FILES(2, level="1")))
    assert page == (
        "# HELP files Files.\n# TYPE files gauge\n"
        'files{level="0"} 1.0\nfiles{level="1"} 2.0\n'
        "# HELP other Other.\n# TYPE other gauge\nother 1.0\n"
    )


def test_an_empty_page_is_empty() -> None:
    """Nothing known is nothing said; OpenMetrics still ends."""
    assert render() == ""
    assert render(format=Format.OPENMETRICS) == "# EOF\n"


def test_families_without_a_place_in_the_catalogue_follow() -> None:
    """What was measured is shown even where its declaration was forgotten."""
    stranger = Family("a_stranger", Kind.GAUGE, COUNT, (), "Stranger.")
    assert render(snapshot(stranger(1), OTHER(2))).endswith("other 2.0\n# HELP a_stranger Stranger.\n"
                                                            "# TYPE a_stranger gauge\na_stranger 1.0\n")  # fmt: skip


def test_ages_are_reckoned_at_each_rendering() -> None:
    """An age grows although nothing is collected, and its page says so."""
    renderer = Renderer(Catalogue((AGE, OTHER)))
    seen = snapshot(AGE(100.0), OTHER(1))
    page = renderer.render([seen], Format.TEXT, 107.5)
    assert page.has_ages
    assert b"age_seconds 7.5\n" in page.data
    assert b"age_seconds 8.5\n" in renderer.render([seen], Format.OPENMETRICS, 108.5).data
    assert not renderer.render([snapshot(OTHER(1))], Format.TEXT, 0.0).has_ages


def test_countdowns_fall_at_each_rendering() -> None:
    """Seconds until a moment, below zero once it has passed."""
    left = Family("reset_seconds", Kind.GAUGE, SECONDS, (), "Left.", countdown=True)
    seen = snapshot(left(100.0))
    assert "reset_seconds 7.5\n" in render(seen, now=92.5)
    assert "reset_seconds -1.0\n" in render(seen, now=101.0)


def test_an_undecodable_label_does_not_break_the_page() -> None:
    """A file name that is not UTF-8 is spelt out instead of ending every scrape."""
    assert 'files{level="a\\\\udcff"} 1.0' in render(snapshot(FILES(1, level="a\udcff")))


def test_lines_go_with_their_snapshot() -> None:
    """A snapshot that was replaced leaves no rendered lines behind."""
    renderer = Renderer(Catalogue((FILES,)))
    seen = snapshot(FILES(1, level="0"))
    renderer.render([seen], Format.TEXT, 0.0)
    assert len(renderer._lines) == 1
    gone = weakref.ref(seen)
    del seen
    gc.collect()
    assert gone() is None
    assert len(renderer._lines) == 0


def test_prefixes_of_vanished_series_are_forgotten() -> None:
    """Labels that come and go (object keys, users) do not fill the memory."""
    writer = Writer(FILES)
    for turn in range(50):
        lines = writer.write([FILES(1, level=f"{turn}-{number}") for number in range(100)])
        writer.forget(lines.series)
    assert len(writer._plain) <= 1300
