"""PostgreSQL 14 to 18, as `tools/postgres-majors` brings them; clients are those of the wheel (18)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.postgres_wal import REPLICATED
from tests.support.servers import need

from tallykeep.demo.postgres import PostgresServer, program

MAJORS = (14, 15, 16, 17, 18)
_FOLDER = Path(__file__).parents[2] / ".cache" / "postgres"


def bin_of(major: int) -> Path:
    """The programs of a major."""
    return _FOLDER / str(major) / "bin"


class MajorServer(PostgresServer):
    """A server of one major."""

    def __init__(self, major: int, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._bin = bin_of(major)
        need(str(self._bin / "postgres"), "PostgreSQL's majors are not there: run tools/postgres-majors (needs npm)")
        super().__init__(folder, fast=True, settings={**REPLICATED, **(settings or {})})

    def _argv(self) -> list[str]:
        return self._own(super()._argv())

    def _initdb(self, passwords: Path) -> list[str]:
        return self._own(super()._initdb(passwords))

    def _own(self, argv: list[str]) -> list[str]:
        return [str(self._bin / Path(word).name) if word.startswith(str(program(""))) else word for word in argv]
