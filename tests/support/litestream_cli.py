"""Calls of `tallykeep litestream` in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallykeep.cli.main import main

# exit status, verdict, reasons, restorable TXID
Expected = tuple[int, str, list[str], int | None]


class Cli:
    """Calls of tallykeep in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: object) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        status = main(["litestream", *map(str, args)])
        told = self._capsys.readouterr()
        return status, told.out, told.err

    def json(self, *args: object) -> tuple[int, dict[str, Any]]:
        status, out, _ = self(*args, "--json")
        return status, json.loads(out)

    def check(self, root: object, *options: object) -> Expected:
        status, told = self.json("check", root, *options)
        txid = told["restorable_txid"]
        return status, told["verdict"], told["reasons"], None if txid is None else int(txid, 16)
