from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.support.toy import PROGRAM, use_toy

from tallykeep.cli.main import main

ROOT = Path(__file__).parents[2]


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Call = Callable[..., Outcome]


@pytest.fixture
def tallykeep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process, with `toy` as its only system."""
    use_toy(monkeypatch)
    monkeypatch.delenv("TALLYKEEP_CONFIG", raising=False)

    def call(*argv: str) -> Outcome:
        status = main(argv)
        told = capsys.readouterr()
        return Outcome(status, told.out, told.err)

    return call


def test_help_names_commands_examples_and_statuses(tallykeep: Call) -> None:
    """--help lists every command and says what each exit status means."""
    told = tallykeep("--help")
    assert told.status == 0
    for text in ("run", "metrics", "config", "version", "toy", "examples:", "130", "141"):
        assert text in told.out


def test_nothing_asked_for_is_wrong_usage(tallykeep: Call) -> None:
    """Without a command there is help, and status 2; the same for a group of commands."""
    for argv in ((), ("toy",)):
        told = tallykeep(*argv)
        assert told.status == 2
        assert "usage: tallykeep" in told.out


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["rnu"], "run"),
        (["metrics", "lst"], "list"),
        (["toy", "fien"], "fine"),
        (["metrics", "show", "toy_verdic"], "toy_verdict"),
    ],
)
def test_unknown_word_suggests_what_was_meant(tallykeep: Call, argv: Sequence[str], meant: str) -> None:
    """A typing error is answered with the word that is close, and status 2."""
    told = tallykeep(*argv)
    assert told.status == 2
    assert f"did you mean {meant}?" in told.err


def test_unknown_word_unlike_any_lists_them(tallykeep: Call) -> None:
    """A word unlike every command is answered with all of them."""
    assert "run, demo, metrics, config, version and toy" in tallykeep("xyzzy").err


def test_error_is_a_line_and_its_status(tallykeep: Call) -> None:
    """A TallykeepError is told without a traceback; several problems are a list."""
    told = tallykeep("toy", "many-problems")
    assert told.status == 1
    assert told.err == "tallykeep: 2 problems\n  - one\n  - two\n"


def test_defect_says_what_to_do(tallykeep: Call) -> None:
    """An unexpected error is one line and where to go with it; --debug adds the traceback."""
    told = tallykeep("toy", "defect")
    assert told.status == 1
    assert "unexpected ZeroDivisionError: oops" in told.err
    assert "--debug" in told.err
    assert "Traceback" not in told.err
    assert "Traceback" in tallykeep("toy", "defect", "--debug").err


def test_interrupt_is_130(tallykeep: Call) -> None:
    """Ctrl-C ends without a traceback, with status 130."""
    told = tallykeep("toy", "interrupted")
    assert (told.status, told.err) == (130, "")


def test_metrics_list_and_show(tallykeep: Call) -> None:
    """Families are listed by system, and shown with states, alerts and expressions."""
    listed = tallykeep("metrics", "list", "--system", "toy").out
    assert [line.split()[0] for line in listed.splitlines()] == ["toy_verdict", "toy_size_bytes"]
    every = json.loads(tallykeep("metrics", "list", "--json").out)
    assert {"tallykeep", "toy"} == {family["system"] for family in every}
    shown = tallykeep("metrics", "show", "toy_verdict").out
    assert "good, bad, unknown" in shown
    assert 'toy_verdict{toy_verdict!="good"} == 1' in shown
    told = json.loads(tallykeep("metrics", "show", "toy_size_bytes", "--json").out)
    assert told["unit"] == "bytes"


def test_config_show_masks_secrets(tallykeep: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting stands there with its origin; a secret is ****."""
    monkeypatch.setenv("TOY_PASSWORD", "hush")
    monkeypatch.setenv("TOY_INTERVAL", "5m")
    entries = {entry["key"]: entry for entry in json.loads(tallykeep("config", "show", "--json").out)}
    assert entries["toy.interval"] == {"key": "toy.interval", "value": "5m", "origin": "TOY_INTERVAL"}
    assert entries["toy.password"]["value"] == "****"
    assert entries["metrics_port"]["origin"] == "default"
    given = tallykeep("config", "show", "--set").out
    assert "metrics_port" not in given
    assert "hush" not in given


def test_config_validate(tallykeep: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Good settings: what would run, status 0. Bad ones: each mistake, status 2. The file may come from a variable."""
    monkeypatch.setenv("TOY_FILE", "/x")
    assert "would run toy" in tallykeep("config", "validate").out
    file = tmp_path / "tallykeep.yaml"
    file.write_text("toy: {interval: never, colour: red}\n")
    monkeypatch.setenv("TALLYKEEP_CONFIG", str(file))
    told = tallykeep("config", "validate")
    assert told.status == 2
    assert "2 problems" in told.err
    monkeypatch.setenv("TALLYKEEP_CONFIG", "")
    assert tallykeep("config", "validate", "--config", str(file)).status == 2


def test_run_with_nothing_to_do(tallykeep: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` without settings says what to set, status 2; an unknown system is named."""
    monkeypatch.delenv("TOY_FILE", raising=False)
    told = tallykeep("run")
    assert told.status == 2
    assert "set TOY_FILE for toy" in told.err
    assert tallykeep("run", "toi").status == 2


def test_version(tallykeep: Call) -> None:
    """Versions of everything a report needs, as text or JSON."""
    assert tallykeep("version").out.startswith("tallykeep ")
    assert {"tallykeep", "python", "obstore"} <= json.loads(tallykeep("version", "--json").out).keys()
    short = tallykeep("--version")
    assert short.status == 0 and short.out == tallykeep("version").out.splitlines(keepends=True)[0]


def test_closed_pipe_is_quiet() -> None:
    """`tallykeep ... | head -1` ends without a word."""
    with subprocess.Popen(
        (*PROGRAM, "toy", "chatty"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"chatter\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_help_imports_nothing_heavy() -> None:
    """--help loads neither uvicorn, rich, yaml, obstore nor asyncio."""
    code = """
import sys
from tallykeep.cli.main import main
main(["--help"])
print([name for name in ("uvicorn", "rich", "yaml", "obstore", "asyncio", "zstandard") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
