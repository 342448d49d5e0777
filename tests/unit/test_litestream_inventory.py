"""Sorting out a listing: levels, totals, and everything that is not an LTX file of this database."""

from __future__ import annotations

import pytest
from tests.support.replicas import LOCAL_LTX, entry, listing, ltx_name, replica

from tallykeep.storage.store import ObjectInfo
from tallykeep.systems.litestream.inventory import Inventory, Total
from tallykeep.systems.litestream.levels import level_name


def info(key: str, size: int = 200) -> ObjectInfo:
    return ObjectInfo(key, size, 0.0, None)


@pytest.mark.parametrize(
    ("level", "name"),
    [(0, "L0 (raw)"), (1, "L1 (30s)"), (2, "L2 (5min)"), (3, "L3 (hourly)"), (9, "L9 (snapshot)"), (4, "L4 (unknown)")],
)
def test_level_names(level: int, name: str) -> None:
    """The label level_name is spelled as the contract says."""
    assert level_name(level) == name


def test_totals_of_the_healthy_fixture() -> None:
    """Levels 0, 1, 2, 3 and 9 of a real replica are counted, with their bytes."""
    objects = listing(replica("healthy"))
    inventory = Inventory(objects)
    assert {level: total.files for level, total in inventory.totals.items()} == {0: 14, 1: 20, 2: 6, 3: 2, 9: 1}
    assert inventory.total == Total(43, sum(o.size for o in objects))
    assert inventory.layouts == {"s3"}


def test_the_usual_levels_are_there_when_empty() -> None:
    """Nothing listed still gives levels 0, 1, 2, 3 and 9, all zero."""
    assert Inventory().totals == {level: Total(0, 0) for level in (0, 1, 2, 3, 9)}


def test_an_unusual_level_appears_when_it_has_files() -> None:
    """A level outside the usual ones is shown, and in the total, once it holds something."""
    inventory = Inventory([entry(4, 1)])
    assert inventory.totals[4] == Total(1, 200)
    assert inventory.total.files == 1


@pytest.mark.parametrize("folder", ["0009", "ltx/9", "9"])
def test_every_layout(folder: str) -> None:
    """S3 folders are hex, others decimal under ltx, or bare where the listing starts at the ltx folder itself."""
    inventory = Inventory([info(f"{folder}/{ltx_name(1, 7)}")])
    (file,) = inventory.level(9)
    assert (file.level, str(file.name)) == (9, ltx_name(1, 7))


def test_the_local_ltx_folder_itself() -> None:
    """LOCAL_LTX_DIR points at the ltx folder: its level folders stand at the top."""
    inventory = Inventory(listing(LOCAL_LTX))
    assert [str(f.name.min)[-2:] for f in inventory.level(0)][::13] == ["2e", "3b"]
    assert inventory.layouts == {"folder"}


@pytest.mark.parametrize("above", ["data/1/.x.db-litestream", "2024/omni", "1/2/3"])
def test_digits_elsewhere_in_the_path_are_no_level(above: str) -> None:
    """The level comes from the parent folder alone; what lies deeper is another database, not summed."""
    inventory = Inventory([info(f"{above}/ltx/0/{ltx_name(1)}"), info(f"{above}/0001/{ltx_name(1)}"), entry(0, 1)])
    assert inventory.totals[0].files == inventory.total.files == 1
    assert inventory.foreign == {above: 2}


def test_an_empty_prefix_has_levels() -> None:
    """A replica at the root of a bucket is read like any other."""
    assert Inventory([info(f"0001/{ltx_name(1, 2)}")]).totals[1].files == 1


def test_several_databases_under_one_prefix_are_not_summed() -> None:
    """A prefix that is too wide shows the databases below it and counts none of them as ours."""
    inventory = Inventory([info(f"{db}/0000/{ltx_name(n)}") for db in ("a", "b") for n in (1, 2)])
    assert inventory.total == Total(0, 0)
    assert inventory.foreign == {"a": 2, "b": 2}
    assert inventory.strays.files == 0


def test_litestream_03_beside_it_is_named() -> None:
    """Objects of Litestream 0.3 are counted apart, with their newest time."""
    old = "generations/0123456789abcdef"
    objects = [
        ObjectInfo(f"{old}/snapshots/00000000.snapshot.lz4", 10, 5.0, None),
        ObjectInfo(f"{old}/wal/00000001/00000000.wal.lz4", 20, 7.0, None),
    ]
    v3 = Inventory([*objects, entry(0, 1)]).v3
    assert (v3.files, v3.bytes, v3.newest) == (2, 30, 7.0)


@pytest.mark.parametrize(
    ("name", "newer"),
    [
        ("snapshots/00000001.snapshot.lz4", True),
        ("wal/00000001_00000000.wal.lz4", True),
        ("wal/00000001_00000000.wal.lz4.tmp", False),
        ("notes.txt", False),
    ],
)
def test_litestream_03_is_newer(name: str, newer: bool) -> None:
    """Only snapshots and WAL files of 0.3 that were written after every LTX file would be restored in its stead."""
    old = ObjectInfo(f"generations/0123456789abcdef/{name}", 10, 5.0, None)
    assert Inventory([old, entry(0, 1, modified=4.0)]).v3_is_newer is newer
    assert not Inventory([old, entry(0, 1, modified=5.0), entry(0, 2, modified=1.0)]).v3_is_newer


def test_temporary_files_are_not_ltx_files() -> None:
    """A `.ltx.tmp` is counted apart, wherever a level is."""
    inventory = Inventory([info(f"0000/{ltx_name(1)}.tmp"), info(f"ltx/1/{ltx_name(1)}.tmp")])
    assert inventory.total.files == 0
    assert inventory.temporary.files == 2


@pytest.mark.parametrize(
    "key",
    [
        f"0000/{ltx_name(0)}",
        f"0000/{ltx_name(255).upper()}",
        "0000/0000000000000001.ltx",
        "0000/notes.txt",
        f"{ltx_name(1)}",
        f"00000/{ltx_name(1)}",
        f"0000/deeper/{ltx_name(1)}",
        f"{ltx_name(1)}.tmp",
        "generations/short/wal/1.wal.lz4",
        "other/0000/notes.txt",
    ],
)
def test_strays(key: str) -> None:
    """What is no LTX name of a possible range in a level's folder is a stray, named and not counted."""
    inventory = Inventory([info(key)])
    assert inventory.strays.keys == [key]
    assert inventory.total.files == 0


def test_pages_of_a_listing_add_up() -> None:
    """An inventory built page by page equals one built at once, and sorts what came unsorted."""
    objects = listing(replica("healthy"))
    paged = Inventory()
    for start in range(0, len(objects), 5):
        paged.add(reversed(objects[start : start + 5]))
        assert paged.level(0) is not None
    assert list(paged) == list(Inventory(objects))


def test_empty_and_cut_files_show_in_the_listing() -> None:
    """Files shorter than the shortest possible LTX file are known to be corrupt without reading them."""
    zero = Inventory(listing(replica("zero-byte")))
    assert [(f.level, f.size) for f in zero.too_small] == [(0, 0)]
    assert [f.size for f in Inventory([entry(0, 1, size=130), entry(0, 2, size=131)]).too_small] == [130]
