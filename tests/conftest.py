"""What every test may count on: the real servers of tests/support/servers.py, an environment without settings, and
time: no test fails because the machine is busy or its disk is slow.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import current_thread, main_thread

import pytest
from hypothesis import HealthCheck, settings

from tallykeep.history import service as history
from tallykeep.runtime import processes

settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

pytest_plugins = ["tests.support.servers", "tests.support.postgres", "tests.support.kafka", "tests.support.clouds"]

_SETTINGS = ("AWS_", "S3_", "TALLYKEEP_", "LITESTREAM_", "LITELLM_", "LOCAL_LTX_", "METRICS_", "OTEL_")


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No test depends on settings that happen to stand in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if name.startswith(_SETTINGS):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C reaches the programs that tests start, also where a shell has put the tests into the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Each xdist worker takes every n-th port: none is chosen by two of them before one has bound it."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_PORTS", processes._PORTS[number % workers :: workers])
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_history() -> Iterator[None]:
    """A history in this process waits for a disk that takes seconds to sync; tests of its patience shorten it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "PATIENCE", 60.0)
        yield
