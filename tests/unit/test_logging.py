from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from tallykeep.config.model import Secret
from tallykeep.runtime.logging import configure
from tallykeep.runtime.progress import progress


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_extra_and_exception(root: logging.Logger) -> None:
    """Each line is one object with time, level, message, the fields of extra and the traceback."""
    stream = io.StringIO()
    configure("info", "json", stream)
    try:
        raise ValueError("über")
    except ValueError:
        logging.getLogger("x").exception("failed %s", "twice", extra={"collector": "c", "key": Secret("hush")})
    logging.getLogger("x").debug("not shown")
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told["message"] == "failed twice"
    assert told["level"] == "error"
    assert told["collector"] == "c"
    assert told["key"] == "****"
    assert "ValueError: über" in told["exception"]
    assert "hush" not in line


def test_human_lines(root: logging.Logger) -> None:
    """Time in UTC, level, sentence; a secret among the arguments is masked."""
    stream = io.StringIO()
    configure("warning", "human", stream)
    logging.getLogger("x").warning("key is %s", Secret("hush"))
    logging.getLogger("x").info("not shown")
    assert stream.getvalue().endswith("Z warning: key is ****\n")
    assert stream.getvalue().count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_silent_when_asked_and_for_short_work() -> None:
    """Nothing is written for silent work, nor for work that ends within seconds where no terminal is."""
    for silent in (True, False):
        stream = io.StringIO()
        with progress("fetch", total=10, silent=silent, stream=stream) as meter:
            meter.expect(20)
            meter.advance(20)
        assert stream.getvalue() == ""


def test_progress_says_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long work without a terminal is told in plain lines."""
    now = iter(float(n) for n in range(0, 1000, 4))
    monkeypatch.setattr("tallykeep.runtime.progress.monotonic", lambda: next(now))
    stream = io.StringIO()
    with progress("fetch", total=4096, stream=stream) as meter:
        for _ in range(4):
            meter.advance(1024)
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("fetch: 4.0 KiB of 4.0 KiB in ")
    assert len(lines) >= 2


def test_progress_draws_a_bar_on_a_terminal() -> None:
    """On a terminal there is a bar."""
    stream = Terminal()
    with progress("fetch", total=4096, unit="files", stream=stream) as meter:
        meter.expect(10)
        meter.advance(10)
    assert "fetch" in stream.getvalue()
