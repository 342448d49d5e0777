from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tallykeep.config.load import PROGRAM, Config, load
from tallykeep.config.model import Secret, group, setting, several, targets
from tallykeep.config.parse import PATH, TEXT, duration, integer, size
from tallykeep.config.program import ProgramSettings
from tallykeep.config.reference import settings_page
from tallykeep.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shelf:
    """One shelf that is watched."""

    name: str = setting("default", help="Name.")
    folder: Path | None = setting(None, env="SHELF_DIR", switch=True, parse=PATH, help="Folder.")
    bucket: str = setting("", env="SHELF_BUCKET", switch=True, help="Bucket.")
    prefix: str = setting("", env="SHELF_PREFIX", help="Prefix.")
    password: Secret | None = setting(None, env="SHELF_PASSWORD", parse=Secret, help="Password.")

    def __post_init__(self) -> None:
        if self.folder and self.bucket:
            raise ValueError("give a folder or a bucket, not both")


@dataclass(frozen=True, slots=True)
class Sweep:
    budget: int = setting("64MiB", parse=size(low=1), help="Bytes an interval.")


@dataclass(frozen=True, slots=True)
class Library:
    interval: float = setting("60", env="LIBRARY_INTERVAL", parse=duration(low=1), help="Seconds.")
    limit: int = setting("10", env="TALLYKEEP_LIBRARY_LIMIT", parse=integer(1, 100), help="Limit.")
    tags: tuple[str, ...] = several(parse=TEXT, env="LIBRARY_TAGS", help="Tags.")
    sweep: Sweep = group(Sweep, help="The sweep.")
    shelves: tuple[Shelf, ...] = targets(Shelf, help="Shelves.")


SECTIONS = {PROGRAM: ProgramSettings, "library": Library}


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "tallykeep.yaml"


def loaded(environ: dict[str, str] | None = None, path: Path | None = None) -> Config:
    return load(SECTIONS, environ or {}, path)


def problems(environ: dict[str, str] | None = None, path: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(environ, path)
    assert caught.value.exit_status == 2
    return caught.value.problems


def test_nothing_given_is_every_default() -> None:
    """Without variables and file every setting has its default, and says so."""
    config = loaded()
    assert config.section("library") == Library()
    assert config.section(PROGRAM).metrics_port == 9090
    assert {entry.origin for entry in config.entries} == {"default"}
    assert config.warnings == ()


def test_variables_describe_the_target_default() -> None:
    """A switch variable makes the target default, and the variables beside it fill it."""
    library = loaded({"SHELF_BUCKET": "b", "SHELF_PREFIX": "0123", "LIBRARY_INTERVAL": "5m"}).section("library")
    assert library.shelves == (Shelf(bucket="b", prefix="0123"),)
    assert library.interval == 300


def test_empty_variables_count_as_not_set() -> None:
    """S3_BUCKET="" is how compose files pass nothing on: it makes no target and is no mistake."""
    assert loaded({"SHELF_BUCKET": "", "LIBRARY_INTERVAL": ""}).section("library") == Library()


def test_variables_without_a_switch_are_remarked_on() -> None:
    """SHELF_PREFIX alone makes no target; the warning names it and the switches. Credentials alone are no remark."""
    config = loaded({"SHELF_PREFIX": "x"})
    assert config.section("library").shelves == ()
    assert config.warnings == ("SHELF_PREFIX has no effect: none of SHELF_DIR, SHELF_BUCKET is set",)
    assert loaded({"SHELF_PASSWORD": "x"}).warnings == ()


def test_file_gives_what_variables_cannot(write: Path) -> None:
    """Several targets, groups and lists come from the file; scalars are taken as written."""
    write.write_text(
        """
metrics_port: 9191
library:
  interval: 1h30m
  tags: [a, 1, no]
  sweep:
    budget: 1GiB
  shelves:
    - name: one
      folder: /srv/one
    - name: two
      bucket: b
      prefix: 0123
      password: 123e4
"""
    )
    config = loaded(path=write)
    library = config.section("library")
    assert config.section(PROGRAM).metrics_port == 9191
    assert library.interval == 5400
    assert library.tags == ("a", "1", "no")
    assert library.sweep.budget == 1 << 30
    assert [shelf.name for shelf in library.shelves] == ["one", "two"]
    assert library.shelves[1].prefix == "0123"
    assert library.shelves[1].password.reveal() == "123e4"
    origins = {entry.key: entry.origin for entry in config.entries}
    assert origins["library.interval"] == "tallykeep.yaml:4"
    assert origins["library.shelves[two].bucket"] == "tallykeep.yaml:12"


def test_default_target_beside_targets_of_the_file(write: Path) -> None:
    """Variables add the target default before those of the file, as long as the file has none of that name."""
    write.write_text("library: {shelves: [{name: one, folder: /srv}]}")
    library = loaded({"SHELF_DIR": "/data"}, write).section("library")
    assert [shelf.name for shelf in library.shelves] == ["default", "one"]
    write.write_text("library: {shelves: [{folder: /srv}]}")
    (problem,) = problems({"SHELF_DIR": "/data"}, write)
    assert "tallykeep.yaml:1: library.shelves describes the target default" in problem
    assert "SHELF_DIR" in problem


def test_variable_wins_over_the_file(write: Path) -> None:
    """A setting outside targets given in both places has the variable's value, and says where from."""
    write.write_text("metrics_port: 9191")
    config = loaded({"METRICS_PORT": "9292"}, write)
    assert config.section(PROGRAM).metrics_port == 9292
    assert ("metrics_port", "9292", "METRICS_PORT") in config.entries


def test_value_from_a_named_file(tmp_path: Path) -> None:
    """NAME_FILE is read, its last line feed left out; NAME beside it, or a file that cannot be read, is a mistake."""
    secret = tmp_path / "password"
    secret.write_text("hush\n")
    environ = {"SHELF_DIR": "/data", "SHELF_PASSWORD_FILE": str(secret)}
    config = loaded(environ)
    assert config.section("library").shelves[0].password.reveal() == "hush"
    assert ("library.shelves[default].password", "****", "SHELF_PASSWORD_FILE") in config.entries
    assert problems({**environ, "SHELF_PASSWORD": "x"}) == (
        "SHELF_PASSWORD and SHELF_PASSWORD_FILE are both set: keep one of them",
    )
    (problem,) = problems({"SHELF_DIR": "/data", "SHELF_PASSWORD_FILE": "/nowhere"})
    assert problem == "SHELF_PASSWORD_FILE is '/nowhere', which cannot be read: No such file or directory"


def test_all_mistakes_at_once(write: Path) -> None:
    """Every mistake has a line with place, value and what is allowed."""
    write.write_text(
        """
metric_port: 1
library:
  interval: soon
  limit: 500
  limit: 5
  sweep: 12
  shelves:
    - name: one
      folder: /a
      bucket: b
    - name: one
      colour: red
    - folder: [a]
  tags: {a: b}
"""
    )
    found = problems({"METRICS_PORT": "99999", "TALLYKEEP_LIBARY_LIMIT": "4"}, write)
    assert found == (
        "TALLYKEEP_LIBARY_LIMIT is not a variable that tallykeep knows; did you mean TALLYKEEP_LIBRARY_LIMIT?",
        "tallykeep.yaml:2: metric_port is not a known key; did you mean metrics_port?",
        "METRICS_PORT is '99999': allowed is a whole number from 0 to 65535",
        "tallykeep.yaml:6: library.limit stands twice, first at tallykeep.yaml:5",
        "tallykeep.yaml:4: library.interval is 'soon': allowed is seconds, or a duration such as 30s, 5m, 1h30m, 7d, "
        "1 s or more",
        "tallykeep.yaml:5: library.limit is '500': allowed is a whole number from 1 to 100",
        "tallykeep.yaml:15: library.tags is to be a list of values: text",
        "tallykeep.yaml:7: library.sweep is to be a list of `key: value` lines",
        "tallykeep.yaml:9: library.shelves[one]: give a folder or a bucket, not both",
        "tallykeep.yaml:13: library.shelves.colour is not a known key",
        "tallykeep.yaml:12: library.shelves has two named 'one', the first at tallykeep.yaml:9: rename one",
        "tallykeep.yaml:14: library.shelves[default].folder is to be one value: a path",
    )


def test_secrets_are_never_shown() -> None:
    """Neither a repr, nor an entry, nor a mistake shows a secret."""
    config = loaded({"SHELF_DIR": "/data", "SHELF_PASSWORD": "hush"})
    assert "hush" not in repr(config)
    assert "hush" not in str(config.section("library").shelves[0].password)
    assert ("library.shelves[default].password", "****", "SHELF_PASSWORD") in config.entries


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\x00", "a: 'x", "%YAML 9.9\n---\na: b\n...", "[" * 5000])
def test_file_that_is_not_yaml(write: Path, text: str) -> None:
    """A broken file is one ConfigError that names it."""
    write.write_text(text)
    assert "tallykeep.yaml" in problems(path=write)[0]


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file is a ConfigError, not an empty one."""
    assert "cannot be read: No such file" in problems(path=tmp_path / "none.yaml")[0]


@pytest.mark.parametrize("text", ["", "# nothing\n", "library:\n", "library: {shelves: , sweep: ~}\n"])
def test_file_that_says_nothing(write: Path, text: str) -> None:
    """Left-out values are not set."""
    write.write_text(text)
    assert loaded(path=write).section("library") == Library()


def test_root_that_is_no_mapping(write: Path) -> None:
    """A list at the top is a mistake with its place."""
    write.write_text("- a\n")
    assert problems(path=write) == ("tallykeep.yaml:1: the file is to be a list of `key: value` lines",)


def test_service_links_of_kubernetes() -> None:
    """What Kubernetes adds for a Service named tallykeep is no mistake there; a port overwritten by it is explained."""
    links = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "TALLYKEEP_SERVICE_HOST": "10.0.0.9",
        "TALLYKEEP_PORT": "tcp://10.0.0.9:9090",
        "TALLYKEEP_PORT_9090_TCP_ADDR": "10.0.0.9",
        "TALLYKEEP_SERVICE_PORT_METRICS": "9090",
    }
    loaded(links)
    assert len(problems({key: value for key, value in links.items() if "KUBER" not in key})) == 4
    assert "enableServiceLinks" in problems({"METRICS_PORT": "tcp://10.0.0.9:80"})[0]


def test_reference_names_every_setting() -> None:
    """The page is the same every time and holds each key, variable, default and help."""
    page = settings_page(SECTIONS)
    assert page == settings_page(SECTIONS)
    for text in ("`METRICS_PORT`", "`9090`", "`library.shelves`: a list", "`SHELF_PASSWORD`", "`64MiB`", "Tags."):
        assert text in page
    assert page.endswith("\n")
