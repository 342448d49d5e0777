"""Drills on real servers: what is sound is ok, what would not come back is failed, what cannot be told is neither."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres_drill import (  # noqa: F401 - with a fixture
    COUNTED,
    ROWS,
    Protected,
    alter_wal,
    fill,
    new_key,
    newest,
    on_s3,
    protected,
    protected_by,
    scratched,
    settings_of,
)
from tests.support.postgres_majors import MAJORS, MajorServer, bin_of
from tests.support.postgres_wal import give, place, wait  # noqa: F401 - a fixture
from tests.support.servers import bucket, own_seaweedfs, seaweedfs  # noqa: F401 - fixtures

from tallykeep.clock import SystemClock
from tallykeep.demo.postgres import PostgresServer
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import Conflict
from tallykeep.systems.postgres.drilling.result import DrillResult
from tallykeep.systems.postgres.journal import Journal
from tallykeep.systems.postgres.locks import exclusive, writing
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.pages import PAGE
from tallykeep.systems.postgres.settings import QuestionSettings
from tallykeep.systems.postgres.throwaway.scratch import LOCK

pytestmark = pytest.mark.server


def recovered(result: DrillResult, found: Protected) -> bool:
    """Whether it came to the end."""
    return LSN.parse(result.recovered_lsn) >= found.end and result.behind_bytes == 0


def execute(server: PostgresServer, *commands: str, user: str = "postgres") -> None:
    """Have a server do something."""
    with psycopg.connect(server.dsn(user), autocommit=True) as db:
        for command in commands:
            db.execute(command)


def is_recovering(server: PostgresServer) -> bool:
    """Whether it has not been promoted yet."""
    with psycopg.connect(server.dsn()) as db:
        return db.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


# --- ok


async def test_a_sound_cluster_is_ok(protected: Protected) -> None:  # noqa: F811
    """From tier 1, which the result says: recovered to the last byte, checked, asked; nothing is left behind."""
    workers = QuestionSettings(
        "workers", sql="SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical%'"
    )
    result = await protected.drilling(questions=(COUNTED, replace(workers, expected="0"))).drill()
    assert (result.outcome, result.problems, result.unchecked) == ("ok", [], [])
    assert (result.tier, result.cold, result.amcheck, result.checksums) == ("1", False, "sound", "sound")
    assert "no tier 2" in result.notes[0]
    assert recovered(result, protected)
    assert [answer.right for answer in result.answers] == [True, True]
    assert result.commit_time
    assert result.restore_seconds
    assert result.recovery_seconds
    assert result.pages
    assert not scratched(protected)
    kept = Journal(protected.cluster.folder).read()
    assert kept.drill == result.as_json()
    assert kept.drills["ok"] >= 1
    assert result.last_success == result.finished


@pytest.mark.parametrize("major", MAJORS[:-1])
async def test_older_majors(place: Path, major: int) -> None:  # noqa: F811
    """Each is found by its folder, recovers, and is checked by a pg_amcheck that is newer."""
    found = await protected_by(MajorServer(major, place))
    result = await found.drilling(bin=bin_of(major)).drill()
    assert (result.outcome, result.problems, result.unchecked) == ("ok", [], [])
    assert recovered(result, found)
    assert (result.version // 10_000, result.amcheck) == (major, "sound")
    assert result.checksums == "off"
    assert not scratched(found)


async def test_cold_from_a_bucket_alone(place: Path, protected: Protected, seaweedfs: SeaweedFS, bucket: str) -> None:  # noqa: F811
    """Tier 1 and the configured key are gone; the bucket and the recovery file are enough."""
    copy = protected.at(place / "archive")
    copy = replace(copy, settings=replace(copy.settings, tier2=on_s3(seaweedfs, bucket)))
    await copy.offload()
    shutil.rmtree(copy.settings.archive)
    assert copy.settings.key_file is not None
    recovery_file = shutil.copy(copy.settings.key_file, place / "recovery.key")
    alone = replace(copy, settings=replace(copy.settings, key_file=None)).drilling(recovery_file=recovery_file)
    result = await alone.drill()
    assert (result.outcome, result.problems, result.unchecked) == ("ok", [], [])
    assert (result.tier, result.cold, result.key) == ("2", True, str(recovery_file))
    assert recovered(result, copy)


async def test_a_new_timeline_and_a_tablespace(place: Path) -> None:  # noqa: F811
    """Recovery follows a promotion that came after the backup; a tablespace is restored into the drill's own folder."""
    space = place / "space"

    def before(server: PostgresServer) -> None:
        space.mkdir()
        give(space)
        execute(
            server, f"CREATE TABLESPACE space LOCATION '{space}'", "CREATE TABLE s TABLESPACE space AS SELECT 1 AS n",
            "ALTER SYSTEM SET restore_command = 'false'",
        )  # fmt: skip

    def after(server: PostgresServer) -> None:
        server.stop()
        (server.data / "recovery.signal").touch()
        give(server.data)
        server.start()
        wait(lambda: not is_recovering(server))
        fill(server)

    rows = replace(COUNTED, expected=str(3 * ROWS))
    found = await protected_by(newest(place), before, after)
    shutil.rmtree(space)
    asked = (rows, QuestionSettings("space", sql="SELECT n FROM s", expected="1"))
    result = await found.drilling(questions=asked).drill()
    assert (result.outcome, result.problems, result.unchecked) == ("ok", [], [])
    assert result.timeline == 2
    assert recovered(result, found)
    assert not space.exists()
    assert not scratched(found)


async def test_a_cluster_that_makes_it_hard(place: Path) -> None:  # noqa: F811
    """Settings that suit no drill, a preloaded library that is not here, no superuser named postgres, a long path."""

    def before(server: PostgresServer) -> None:
        hard = {
            "shared_buffers": "900GB", "max_connections": "90000", "archive_mode": "on", "logging_collector": "on",
            "archive_command": f"touch {place}/archived", "synchronous_standby_names": "ghost", "port": "1",
            "recovery_target_time": "2020-01-01 00:00:00",
        }  # fmt: skip
        execute(server, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in hard.items()))
        execute(server, "ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements, ghost")

    def after(server: PostgresServer) -> None:
        execute(server, "CREATE ROLE chief SUPERUSER LOGIN")
        execute(server, "ALTER ROLE postgres RENAME TO other", "CREATE ROLE postgres LOGIN", user="chief")

    asked = QuestionSettings("libraries", sql="SHOW shared_preload_libraries", expected="pg_stat_statements")
    found = await protected_by(newest(place), before, after)
    found = found.drilling(questions=(COUNTED, asked), scratch=place / ("long" * 30))
    result = await found.drill()
    assert (result.outcome, result.problems, result.unchecked) == ("ok", [], [])
    assert any("ghost" in note for note in result.notes)
    assert recovered(result, found)
    assert not scratched(found)
    assert not (place / "archived").exists()


# --- failed


async def test_damage_that_backups_carry_on(place: Path) -> None:  # noqa: F811
    """An index out of order and a broken row, on a primary without checksums, are found in what was restored."""

    def before(server: PostgresServer) -> None:
        execute(server, "CREATE TABLE u AS SELECT n FROM generate_series(1, 1000) n", "CHECKPOINT")
        with psycopg.connect(server.dsn()) as db:
            found = db.execute("SELECT pg_relation_filepath('t_pkey'), pg_relation_filepath('u')").fetchone()
        assert found is not None
        server.stop()
        index, heap = (server.data / path for path in found)
        swap(index, PAGE + 24 + 8, PAGE + 24 + 40, 4)  # two line pointers of the first leaf
        flip(heap, 24 + 1, 0x40)  # the place of the first row
        server.start()

    found = await protected_by(MajorServer(17, place), before)
    result = await found.drilling(bin=bin_of(17)).drill()
    assert (result.outcome, result.stage, result.amcheck) == ("failed", "amcheck", "corrupt")
    assert any("t_pkey" in problem for problem in result.problems)
    assert any("public.u" in problem for problem in result.problems)


async def test_a_page_with_a_wrong_checksum(place: Path) -> None:  # noqa: F811
    """A page that rotted on the primary unnoticed, being newer than the backup's start, is found and named."""
    path = ""

    def before(server: PostgresServer) -> None:
        nonlocal path
        execute(server, "CREATE TABLE u AS SELECT n FROM generate_series(1, 1000) n", "CHECKPOINT")
        with psycopg.connect(server.dsn()) as db:
            [path] = db.execute("SELECT pg_relation_filepath('u')").fetchone() or [""]
        server.stop()
        file = server.data / path
        with file.open("r+b") as page:
            page.write((0).to_bytes(4, "little") + 0x3000100.to_bytes(4, "little"))  # pd_lsn
        flip(file, 4000)
        server.start()

    found = await protected_by(newest(place), before)
    result = await found.drill()
    assert (result.outcome, result.checksums) == ("failed", "corrupt")
    assert any(f"{path}, page 0" in problem for problem in result.problems)


async def test_a_wrong_answer(protected: Protected) -> None:  # noqa: F811
    """A question that has another answer than it should, and one that cannot be asked, fail the drill."""
    wrong = replace(COUNTED, expected="7")
    impossible = QuestionSettings("impossible", sql="SELECT * FROM nowhere")
    result = await protected.drilling(questions=(COUNTED, wrong, impossible), amcheck=False).drill()
    assert (result.outcome, result.stage, result.amcheck) == ("failed", "questions", "off")
    assert f"'{2 * ROWS}', and '7' is right" in result.problems[0]
    assert "nowhere" in result.problems[1]
    assert [answer.right for answer in result.answers] == [True, False, False]


@pytest.mark.parametrize("what", ["record", "page"])
async def test_recovery_that_ends_too_early(place: Path, protected: Protected, what: str) -> None:  # noqa: F811
    """PostgreSQL takes damaged WAL for its end and opens; held against what the tier says it holds, it is behind."""
    copy = protected.at(place / "archive")
    middle = (protected.end % (16 << 20)) // PAGE // 2 * PAGE

    def change(data: bytearray) -> None:
        if what == "record":
            data[middle + PAGE // 2] ^= 1
        else:
            data[middle] ^= 1  # the page's magic, which no record's checksum takes in

    alter_wal(copy, change)
    result = await copy.drilling(questions=()).drill()
    assert (result.outcome, result.stage) == ("failed", "recovery")
    if what == "record":
        assert "its CRC-32C is" in result.why
    else:
        assert LSN.parse(result.recovered_lsn) + result.behind_bytes == LSN.parse(result.held_lsn)
        assert "records up to" in result.why
    assert not scratched(copy)


async def test_the_wrong_key_and_damage_in_a_tier(place: Path, protected: Protected) -> None:  # noqa: F811
    """A recovery file that does not open the backups, one that is not there, and a damaged pack all fail the drill."""
    other = await protected.drilling(recovery_file=new_key(place / "other.key")).drill()
    assert (other.outcome, other.stage) == ("failed", "key")
    assert "another key" in other.why
    missing = await protected.drill(key_file=place / "nowhere")
    assert (missing.outcome, missing.stage) == ("failed", "key")
    copy = protected.at(place / "archive")
    pack = max((copy.cluster.folder / "base" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    flip(pack, pack.stat().st_size // 2)
    damaged = await copy.drill()
    assert (damaged.outcome, damaged.stage) == ("failed", "restore")
    assert pack.name in damaged.why
    assert not scratched(copy)


def flip(path: Path, offset: int, bits: int = 1) -> None:
    """Change a byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def swap(path: Path, one: int, other: int, size: int) -> None:
    """Exchange two pieces of a file."""
    data = bytearray(path.read_bytes())
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    path.write_bytes(data)


# --- inconclusive


async def test_nothing_to_restore(place: Path) -> None:  # noqa: F811
    """Without a backup a drill is inconclusive, and that counts as no success."""
    result = await Protected(settings_of(place / "archive"), 0).drill()
    assert (result.outcome, result.stage, result.last_success) == ("inconclusive", "key", 0.0)
    assert "no backup yet" in result.why


async def test_a_machine_that_lacks_something(place: Path, protected: Protected) -> None:  # noqa: F811
    """Neither a major that is not installed nor a disk that is too small speaks against a backup."""
    copy = protected.at(place / "archive")
    cluster = copy.cluster
    async with writing(cluster, cluster.tier1, SystemClock()) as repository:
        entry = repository.backup()
        await repository.commit([replace(entry, version=90_600)])
    old = await copy.drill()
    assert (old.outcome, old.stage) == ("inconclusive", "programs")
    assert "install postgresql-9" in old.why
    async with writing(cluster, cluster.tier1, SystemClock()) as repository:
        await repository.commit([replace(entry, raw=1 << 60)])
    large = await copy.drill()
    assert (large.outcome, large.stage) == ("inconclusive", "programs")
    assert "make room" in large.why


async def test_a_bucket_that_does_not_answer(place: Path, protected: Protected, own_seaweedfs: SeaweedFS) -> None:  # noqa: F811
    """A tier that is silent is neither without backups nor wanting: the drill is inconclusive, and soon over."""
    own_seaweedfs.create_bucket("backups")
    copy = protected.at(place / "archive")
    tier2 = on_s3(own_seaweedfs, "backups")
    copy = replace(copy, settings=replace(copy.settings, tier2=tier2))
    await copy.offload()
    copy = replace(copy, settings=replace(copy.settings, tier2=replace(tier2, timeout=1.0)))
    own_seaweedfs.freeze()
    silent = await copy.drilling(timeout=20.0).drill()
    own_seaweedfs.thaw()
    assert (silent.outcome, silent.tier) == ("inconclusive", "2")
    assert not scratched(copy)


async def test_wal_that_cannot_be_read(place: Path, protected: Protected) -> None:  # noqa: F811
    """An error in the middle of recovery is no end of WAL: PostgreSQL does not open, and the drill is inconclusive."""
    copy = protected.at(place / "archive")
    begun = next(each for each in copy.cluster.archive.segments() if each.segment.name.endswith("2"))
    begun.paths[0].unlink()
    begun.paths[0].mkdir()
    result = await copy.drill()
    assert (result.outcome, result.stage, result.recovered_lsn) == ("inconclusive", "recovery", "")
    assert begun.segment.name in result.why
    assert not scratched(copy)


async def test_one_drill_at_a_time(protected: Protected) -> None:  # noqa: F811
    """A second drill of a cluster is refused while one goes on, and one that takes too long is given up."""
    folder = protected.settings.archive / "scratch" / "main"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / LOCK, "a test"), pytest.raises(Conflict):
        await protected.drill()
    result = await protected.drilling(
        questions=(QuestionSettings("long", sql="SELECT pg_sleep(600)"),), timeout=4.0, amcheck=False
    ).drill()
    assert result.outcome == "inconclusive"
    assert "given up" in result.why
    assert not scratched(protected)
