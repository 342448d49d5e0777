"""What `restore` and `get-wal` are asked for, refused where it cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallykeep.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restore", "--program", 'sudo "tallykeep'], "No closing quotation"),
        (["restore", "--lsn", "1_0/0"], "is no LSN"),
        (["restore", "--cluster", "../../x", "--tier2", "backups"], "--cluster is '../../x': allowed is letters"),
        (["restore", "--cluster", "queue", "--tier2", "backups"], "not queue or scratch"),
    ],
)
def test_it_is_wrong_usage(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said by name, with status 2, and nothing is made: a name of a cluster leads out of no folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TALLYKEEP_CONFIG", raising=False)
    assert main(["postgres", *words, "--to", "x"]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_named_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A variable of a shell that is not set leaves nothing: the working directory is not meant."""
    assert main(["postgres", "restore", "--to", ""]) == 2
    assert "it is empty: name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "x" * 129])
def test_a_backup_is_called_what_fits_into_a_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Lists show it."""
    assert main(["postgres", "backup", "--name", name]) == 2
    assert "128 printable characters at most" in capsys.readouterr().err
