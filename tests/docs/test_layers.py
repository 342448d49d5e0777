"""The import contracts cover the tree as it is."""

from __future__ import annotations

import tomllib
from typing import Any

from tests.support.documents import ROOT

from tallykeep.systems import all_systems

PACKAGE = ROOT / "src/tallykeep"


def contracts(kind: str) -> list[dict[str, Any]]:
    """The import contracts of one type."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [contract for contract in settings["contracts"] if contract["type"] == kind]


def test_every_part_has_its_layer() -> None:
    """Each package and module of tallykeep stands in exactly one layer: a new one cannot slip past the contract."""
    placed = [name.strip() for layer in contracts("layers")[0]["layers"] for name in layer.split("|")]
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    modules = [path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    assert sorted(placed) == sorted(f"tallykeep.{name}" for name in [*packages, *modules])


def test_every_system_is_independent() -> None:
    """Each system stands in the contract that keeps systems apart."""
    systems = sorted(f"tallykeep.systems.{system.name}" for system in all_systems())
    assert sorted(contracts("independence")[0]["modules"]) == systems
