"""The docs know every command, setting and metric family, and nothing generated is out of step."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest
from tests.support.documents import ROOT, Block, blocks, documents, guides, read
from tools.commands import command_tree
from tools.generate import REFERENCE, generated

from tallykeep.cli.main import main
from tallykeep.cli.metrics import groups
from tallykeep.cli.sections import sections
from tallykeep.config.load import variables_of
from tallykeep.config.model import Setting, declared

PARSERS = list(command_tree())
FAMILIES = [family for families in groups().values() for family in families]
COMMAND_LINES = [
    (block.where, line.split("  #")[0].removeprefix(".venv/bin/"))
    for page in documents()
    for block in blocks(page, "sh", "text")
    for line in block.text.splitlines()
    if line.removeprefix(".venv/bin/").startswith("tallykeep ")
]


@pytest.mark.parametrize("path", generated())
def test_generated_files_are_in_step(path: str) -> None:
    """Every generated file says what the code says; `make docs` mends it."""
    assert (ROOT / path).exists(), f"{path} is missing: make docs"
    assert (ROOT / path).read_text() == generated()[path], f"{path} is out of step: make docs"


@pytest.mark.parametrize("parser", PARSERS, ids=lambda p: p.prog)
def test_every_command_stands_in_the_guides(parser: argparse.ArgumentParser) -> None:
    """Every command is written out in a page for people; its options stand there or in the reference."""
    assert parser.prog in guides(), f"no page says {parser.prog!r}"
    everything = guides() + read(ROOT / REFERENCE / "commands.md")
    for action in parser._actions:
        shown = () if action.help == argparse.SUPPRESS else action.option_strings
        for option in shown:
            assert option in everything, f"no page says {parser.prog} {option}"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_family_stands_in_the_reference(family: object) -> None:
    """Every family has its section in the metrics reference, with its alerts."""
    page = read(ROOT / REFERENCE / "metrics.md")
    assert f"### `{family.name}`" in page  # type: ignore[attr-defined]
    assert all(f"`{alert.title}`" in page for alert in family.alerts)  # type: ignore[attr-defined]


def test_families_named_in_the_docs_exist() -> None:
    """Every family that a page names is one of the catalogue."""
    known = {family.name for family in FAMILIES}
    named = set(re.findall(r"`((?:ops_litestream|tallykeep)_[a-z_]+)(?:\{[^`]*)?`", guides()))
    assert named - known == set()


def test_alerts_named_in_the_docs_exist() -> None:
    """Every alert that a page names is one of the catalogue."""
    known = {alert.title for family in FAMILIES for alert in family.alerts}
    assert set(re.findall(r"`((?:Litestream|Litellm|Tallykeep)[A-Z]\w+)`", guides())) - known == set()


@pytest.mark.parametrize("section", sections())
def test_every_setting_stands_in_the_reference(section: str) -> None:
    """Every key and every variable of a section is in the settings reference."""
    page = read(ROOT / REFERENCE / "settings.md")
    cls = sections()[section]
    for key, field in declared(cls).items():
        assert f"`{key}`" in page or f"{key}`" in page, key
        if isinstance(field, Setting) and field.env:
            assert f"`{field.env}`" in page
    assert all(f"`{variable}`" in page for variable, _ in variables_of(cls))


@pytest.mark.parametrize(("where", "line"), COMMAND_LINES)
def test_command_lines_in_the_docs_parse(where: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every `tallykeep ...` line in a code block is one that the program understands."""
    words = shlex.split(line.partition("|")[0].replace("...", "X"))[1:]
    words = words[: words.index("--")] if "--" in words else words  # what follows is another program's
    assert main([*words, "--help"]) == 0, where
    told = capsys.readouterr().out
    for option in (word for word in words if word.startswith("-")):
        assert option in told, f"{where}: {option}"


def test_there_are_command_lines_to_check() -> None:
    """The pattern above still finds the code blocks."""
    assert len(COMMAND_LINES) > 10
    assert isinstance(next(blocks(ROOT / "README.md", "sh")), Block)
