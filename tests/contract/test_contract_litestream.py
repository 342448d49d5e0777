"""The eleven published families, exactly; and what was wrong with them in the exporter they come from is not."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.replicas import LOCAL_LTX, entry, replica
from tests.support.watching import Watch, file_target, from_environment, upload, watching

from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.exposition.page import Format, Renderer
from tallykeep.metrics import Catalogue, Family, Snapshot
from tallykeep.systems.litestream.families import FAMILIES, PUBLISHED
from tallykeep.systems.litestream.inventory import Inventory
from tallykeep.systems.litestream.settings import LitestreamSettings
from tallykeep.systems.litestream.sources import LOCAL
from tallykeep.systems.litestream.totals import count, sum_up

DATA = Path(__file__).parent / "data" / "metrics.tsv"
with DATA.open(newline="") as file:
    ROWS = {row["name"]: row for row in csv.DictReader(file, delimiter="\t") if row["system"] == "litestream"}
LEVELS = {"0": "L0 (raw)", "1": "L1 (30s)", "2": "L2 (5min)", "3": "L3 (hourly)", "9": "L9 (snapshot)"}


def by_level(watch: Watch, family: str) -> dict[str, tuple[str, float]]:
    series = ((dict(labels), value) for labels, value in watch.series(family).items())
    return {labels["level"]: (labels["level_name"], value) for labels, value in series}


def test_every_published_family_is_declared() -> None:
    """The catalogue has the eleven names of the contract, and the system shows them."""
    assert [family.name for family in PUBLISHED] == list(ROWS)
    assert set(PUBLISHED) <= set(FAMILIES)


@pytest.mark.parametrize("family", PUBLISHED, ids=lambda family: family.name)
def test_published_family_has_its_type_unit_and_labels(family: Family) -> None:
    """Type, unit and labels are those of the contract."""
    row = ROWS[family.name]
    assert family.kind.value == row["type"]
    assert list(family.labels) == [label for label in row["labels"].split(",") if label]
    assert family.unit.suffix.rpartition("_")[2] == row["unit"]


def test_every_other_family_says_which_target() -> None:
    """Beside the published ones each family has the label `target`."""
    assert all("target" in family.labels for family in FAMILIES if family not in PUBLISHED)


async def test_the_published_environment_gives_the_published_page() -> None:
    """LOCAL_LTX_DIR alone: all eleven families, five levels each, remote ones 0, errors from 0 on."""
    async with Watch(from_environment(LOCAL_LTX_DIR=str(LOCAL_LTX))) as watch:
        await watch.first_look()
        assert watch.value("ops_litestream_local_ltx_files") == 14
        assert watch.value("ops_litestream_local_ltx_bytes") == 11151
        assert watch.value("ops_litestream_remote_ltx_files") == 0
        assert watch.value("ops_litestream_remote_ltx_bytes") == 0
        for side, expected in (("local", 14), ("remote", 0)):
            levels = by_level(watch, f"ops_litestream_{side}_ltx_files_by_level")
            assert {level: name for level, (name, _) in levels.items()} == LEVELS
            assert levels["0"][1] == expected
            assert set(by_level(watch, f"ops_litestream_{side}_ltx_bytes_by_level")) == set(LEVELS)
        assert (watch.errors("local"), watch.errors("remote")) == (0, 0)
        duration = watch.value("ops_litestream_scrape_duration_seconds")
        assert duration is not None and duration > 0
        now, last = watch.clock.time(), watch.value("ops_litestream_last_scrape_timestamp_seconds")
        assert last is not None and now - 60 < last <= now


def test_other_levels_are_named_unknown_and_counted() -> None:
    """A file of level 4 stands as "L4 (unknown)" and in the total."""
    samples = tuple(count("default", LOCAL, Inventory([entry(4, 1, 2, size=300), entry(0, 3, size=200)])))
    sums = tuple(sum_up(LOCAL, [Snapshot("c", "default", samples, 0.0)]))
    page = Renderer(Catalogue(FAMILIES)).render([Snapshot("t", "", sums, 0.0)], Format.TEXT, 0.0).data.decode()
    assert 'ops_litestream_local_ltx_files_by_level{level="4",level_name="L4 (unknown)"} 1.0' in page
    assert "ops_litestream_local_ltx_files 2.0" in page
    assert "ops_litestream_local_ltx_bytes 500.0" in page


async def test_sums_over_targets_count_a_shared_folder_once() -> None:
    """Two replicas of one database share its local folder: its files are counted once, the replicas' both."""
    settings = watching(
        file_target(replica("healthy"), LOCAL_LTX, "a"), file_target(replica("stale"), LOCAL_LTX, "b")
    )  # fmt: skip
    async with Watch(settings) as watch:
        await watch.first_look()
        assert watch.value("ops_litestream_local_ltx_files") == 14
        assert watch.value("ops_litestream_remote_ltx_files") == 43 + 27


async def test_a_level_is_told_by_the_parent_folder_alone(tmp_path: Path) -> None:
    """Digits elsewhere in a path mean nothing: /data/1/... and a replica at 2024/0003 keep their levels."""
    local = tmp_path / "1" / ".omni.db-litestream" / "ltx"
    shutil.copytree(LOCAL_LTX, local)
    remote = tmp_path / "2024" / "0003"
    shutil.copytree(replica("healthy"), remote)
    async with Watch(watching(file_target(remote, local))) as watch:
        await watch.first_look()
        assert by_level(watch, "ops_litestream_local_ltx_files_by_level")["0"][1] == 14
        remote_levels = by_level(watch, "ops_litestream_remote_ltx_files_by_level")
        assert {level: files for level, (_, files) in remote_levels.items()} == {
            "0": 14, "1": 20, "2": 6, "3": 2, "9": 1,
        }  # fmt: skip


async def test_only_ltx_files_of_this_database_are_counted(tmp_path: Path) -> None:
    """Unfinished files, strays, objects of Litestream 0.3 and other databases below the prefix are not summed."""
    shutil.copytree(replica("healthy"), tmp_path / "r")
    shutil.copytree(replica("stale"), tmp_path / "r" / "other.db")
    generation = tmp_path / "r" / "generations" / "0123456789abcdef" / "snapshots"
    generation.mkdir(parents=True)
    (generation / "00000000.snapshot.lz4").write_bytes(b"x" * 500)
    (tmp_path / "r" / "0000" / "0000000000000040-0000000000000040.ltx.tmp").write_bytes(b"x" * 500)
    (tmp_path / "r" / "0000" / "notes.txt").write_bytes(b"x" * 500)
    async with Watch(watching(file_target(tmp_path / "r"))) as watch:
        await watch.first_look()
        assert watch.value("ops_litestream_remote_ltx_files") == 43
        assert watch.value("ops_litestream_temporary_files", source="remote") == 1
        assert watch.verdict() == "restorable"


async def test_a_failed_scrape_is_counted_and_moves_no_timestamp(tmp_path: Path) -> None:
    """A local folder that is not there: an error each time, no figures, 0 as the last success; then it is there."""
    local = tmp_path / ".omni.db-litestream" / "ltx"
    async with Watch(watching(file_target(replica("healthy"), local))) as watch:
        await watch.first_look()
        await watch.until(lambda: watch.errors("local") >= 2, "two errors")
        assert watch.errors("remote") == 0
        assert watch.value("ops_litestream_last_scrape_timestamp_seconds") == 0
        assert watch.value("ops_litestream_local_ltx_files") is None
        assert by_level(watch, "ops_litestream_local_ltx_bytes_by_level") == {}
        assert watch.value("ops_litestream_remote_ltx_files") == 43
        shutil.copytree(LOCAL_LTX, local)
        await watch.until(lambda: watch.value("ops_litestream_local_ltx_files") == 14, "the folder is seen")
        await watch.until(lambda: watch.value("ops_litestream_last_scrape_timestamp_seconds"), "a complete scrape")
        moved = watch.value("ops_litestream_last_scrape_timestamp_seconds")
        assert moved is not None
        shutil.rmtree(tmp_path / ".omni.db-litestream")
        await watch.until(lambda: watch.value("ops_litestream_local_ltx_files") is None, "it is missed")
        stays = watch.value("ops_litestream_last_scrape_timestamp_seconds")
        errors = watch.errors("local")
        await watch.until(lambda: watch.errors("local") > errors + 1, "more errors")
        assert watch.value("ops_litestream_last_scrape_timestamp_seconds") == stays


async def test_one_silent_target_withdraws_the_sums_it_belongs_to(tmp_path: Path) -> None:
    """A sum without one of its parts would be a wrong number; what the others show on their own stays."""
    settings = watching(file_target(replica("healthy"), name="a"), file_target(tmp_path / "gone", name="b"))
    async with Watch(settings) as watch:
        await watch.first_look()
        assert watch.value("ops_litestream_remote_ltx_files") is None
        assert watch.value("ops_litestream_ltx_files", target="a", source="remote", level="0") == 14
        assert (watch.verdict("a"), watch.verdict("b")) == ("restorable", "unknown")


async def test_before_the_first_look_the_page_is_honest() -> None:
    """Verdicts are there from the start, as unknown; nothing is counted yet and the timestamp is 0."""
    async with Watch(LitestreamSettings(targets=(file_target(replica("healthy"), LOCAL_LTX),)), FakeClock()) as watch:
        assert watch.verdict() == "unknown"
        assert watch.state("ops_litestream_drill_result") == "unknown"
        assert watch.state("ops_litestream_sweep_result") == "unknown"
        assert watch.value("ops_litestream_last_scrape_timestamp_seconds") == 0
        assert watch.value("ops_litestream_local_ltx_files") is None


@pytest.mark.server
@pytest.mark.parametrize("prefix", ["omni", "/omni/", "2024/0009", ""])
async def test_a_bucket_given_by_the_published_variables(seaweedfs: SeaweedFS, bucket: str, prefix: str) -> None:
    """Bucket, prefix, endpoint and keys are enough; digits in the prefix, or no prefix, do not disturb the levels."""
    store = seaweedfs.s3_store(bucket, prefix.strip("/"))
    await upload(store, replica("healthy"))
    await store.close()
    settings = from_environment(
        S3_BUCKET=bucket, S3_PREFIX=prefix, S3_ENDPOINT_URL=seaweedfs.endpoint,
        LITESTREAM_ACCESS_KEY_ID=seaweedfs.access_key, LITESTREAM_SECRET_ACCESS_KEY=seaweedfs.secret_key,
    )  # fmt: skip
    async with Watch(settings) as watch:
        await watch.first_look()
        levels = by_level(watch, "ops_litestream_remote_ltx_files_by_level")
        assert {level: files for level, (_, files) in levels.items()} == {"0": 14, "1": 20, "2": 6, "3": 2, "9": 1}
        assert watch.value("ops_litestream_local_ltx_files") == 0
        assert (watch.verdict(), watch.reasons()) == ("restorable", set())
        assert watch.value("ops_litestream_restore_plan_files") == 7
        assert seaweedfs.secret_key not in watch.page().decode()


async def test_a_bucket_without_its_keys_is_an_error_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original left such a remote out without a word: here it is counted as an error and nothing is 0."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = from_environment(S3_BUCKET="bucket", S3_ENDPOINT_URL="http://127.0.0.1:1")
    async with Watch(replace(settings, interval=1.0, timeout=2.0)) as watch:
        await watch.until(lambda: watch.errors("remote"), "an error")
        assert watch.value("ops_litestream_remote_ltx_files") is None
        assert watch.verdict() == "unknown"
