"""Examples and configuration shown in the docs are configuration that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.documents import ROOT, Block, blocks, documents, name

from tallykeep.cli.sections import sections
from tallykeep.config.load import load
from tallykeep.systems import all_systems
from tallykeep.systems.kafka.commands import backup_request
from tallykeep.systems.kafka.config_file import read_settings
from tallykeep.web.webconfig import read_web_config

FILES = sorted(ROOT.glob("examples/**/tallykeep.yaml"))
BLOCKS = [b for page in documents() for b in blocks(page, "yaml") if b.text.startswith("# tallykeep.yaml")]
WEB_CONFIGS = [
    *(path.read_text() for path in ROOT.glob("examples/**/web.config.yml")),
    *(b.text for page in documents() for b in blocks(page, "yaml") if b.text.startswith("# web.config.yml")),
]
SECTIONS = sections()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_example_files_load(path: Path) -> None:
    """Every example's tallykeep.yaml loads without a problem and asks for a system."""
    config = load(SECTIONS, {}, path)
    assert any(system.enabled(config.section(system.name)) for system in all_systems())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.where)
def test_blocks_load(block: Block, tmp_path: Path) -> None:
    """Every tallykeep.yaml shown in the docs loads without a problem and asks for a system."""
    path = tmp_path / "tallykeep.yaml"
    path.write_text(block.text)
    config = load(SECTIONS, {}, path)
    assert any(system.enabled(config.section(system.name)) for system in all_systems())


@pytest.mark.parametrize("text", WEB_CONFIGS)
def test_web_configs_are_honoured(text: str, tmp_path: Path) -> None:
    """Every web.config.yml shown is understood in full, without a warning."""
    path = tmp_path / "web.config.yml"
    path.write_text(text)
    config = read_web_config(path)
    assert config.users
    assert config.tls is not None
    assert not config.warnings


def test_example_variables_load() -> None:
    """The example's variables describe the default target and cause no remark."""
    lines = (ROOT / "examples/01-one-database/tallykeep.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    config = load(SECTIONS, variables)
    assert not config.warnings
    assert [target.name for target in config.section("litestream").targets] == ["default"]


def test_example_variables_of_litellm_load(tmp_path: Path) -> None:
    """The LiteLLM example's variables describe the default database; its password comes from a file."""
    lines = (ROOT / "examples/05-litellm/tallykeep.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    variables["LITELLM_DB_PASSWORD_FILE"] = str(tmp_path / "password")
    (tmp_path / "password").write_text("secret\n")
    config = load(SECTIONS, variables)
    assert not config.warnings
    [database] = config.section("litellm").databases
    assert (database.host, database.password.reveal()) == ("db.example.com", "secret")


def test_every_example_is_listed() -> None:
    """Every numbered folder stands in the examples' README."""
    readme = (ROOT / "examples/README.md").read_text()
    for folder in sorted(ROOT.glob("examples/[0-9]*")):
        assert f"({folder.name})" in readme


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/07-kafka/*.yaml")), ids=name)
def test_examples_of_kafka_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is read as the commands read it, becomes a request, and has nothing needless in it."""
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    settings = read_settings(path, lambda _: load(SECTIONS, {}))
    assert not list(settings.needless())
    cluster = settings.source if settings.mode == "backup" else settings.target
    assert cluster.servers == ("kafka-1:9093", "kafka-2:9093")
    assert (backup_request(settings).topics.problems() if settings.mode == "backup" else []) == []
    assert settings.mode == path.stem
