"""Code blocks and deployment files say what a machine accepts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.documents import ROOT, Block, blocks, documents, name, read

from tallykeep.cli.sections import sections
from tallykeep.config.load import variables_of
from tallykeep.config.sources import CONFIG_VARIABLE

YAML_BLOCKS = [block for page in documents() for block in blocks(page, "yaml")]
CLIENTS = ("PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")  # what libpq and S3 clients read
YAML_FILES = sorted([*ROOT.glob("deploy/**/*.y*ml"), *ROOT.glob("examples/**/*.y*ml")])


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=lambda b: b.where)
def test_yaml_blocks_parse(block: Block) -> None:
    """Every YAML block in the docs parses to a mapping or a list."""
    assert isinstance(yaml.safe_load(block.text), dict | list), block.where


@pytest.mark.parametrize("path", YAML_FILES, ids=name)
def test_yaml_files_parse(path: Path) -> None:
    """Every YAML file of deploy and examples parses."""
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(path.read_text())), path


def compose_services() -> Iterator[tuple[str, dict[str, Any]]]:
    """Services called tallykeep in every compose file and block."""
    texts = [(name(p), p.read_text()) for p in YAML_FILES] + [(b.where, b.text) for b in YAML_BLOCKS]
    for where, text in texts:
        for document in yaml.safe_load_all(text):
            if isinstance(document, dict) and isinstance(document.get("services"), dict):
                yield where, document["services"].get("tallykeep", {})


def test_compose_services_use_the_published_variables(contract_variables: frozenset[str]) -> None:
    """Every variable a compose example gives tallykeep is a published one, a client's, or starts with TALLYKEEP_."""
    found = list(compose_services())
    assert found
    for where, service in found:
        for variable in service.get("environment", {}):
            plain = variable.removesuffix("_FILE")
            assert plain in {*contract_variables, *CLIENTS} or plain.startswith("TALLYKEEP_"), f"{where}: {variable}"


def test_pods_use_the_published_variables(contract_variables: frozenset[str]) -> None:
    """Every variable the Kubernetes examples give tallykeep is a published one or starts with TALLYKEEP_."""
    pods = [document for path in YAML_FILES for document in yaml.safe_load_all(path.read_text())]
    containers = [
        container
        for pod in pods
        if pod.get("kind") == "Pod"
        for container in pod["spec"]["containers"]
        if container["name"] == "tallykeep"
    ]
    assert containers
    for container in containers:
        for variable in container["env"]:
            assert variable["name"] in contract_variables or variable["name"].startswith("TALLYKEEP_")


def test_every_variable_of_ours_is_a_setting() -> None:
    """What pages, examples and deployment files call TALLYKEEP_SOMETHING is a variable that the program reads."""
    known = {variable for cls in sections().values() for variable, _ in variables_of(cls)} | {CONFIG_VARIABLE}
    pages = [*documents(), *ROOT.glob("deploy/**/*"), *ROOT.glob("examples/**/*")]
    for page in [page for page in pages if page.is_file()]:
        if page.name in ("reliability.md", "CONTRIBUTING.md"):  # speak of variables of the tests
            continue
        text = re.sub(r"\$\{\w+\}", "", read(page))  # what a compose file is given from outside has a name of its own
        found = re.findall(r"\bTALLYKEEP_[A-Z0-9_]*[A-Z0-9]\b(?!_?\*)", text)
        assert not {each for each in found if not {each, each.removesuffix("_FILE")} & known}, name(page)


def test_make_targets_in_the_docs_exist() -> None:
    """Every `make TARGET` in a page is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    targets = {line.partition(":")[0] for line in makefile.splitlines() if ":" in line and line[0].islower()}
    for page in documents():
        for line in read(page).splitlines():
            for spot in line.split("`make ")[1:]:
                words = shlex.split(spot.partition("`")[0])
                assert not words or words[0] in targets, f"{name(page)}: make {words[0]}"
