"""What every test may count on: the real servers of tests/support/servers.py, and an environment without settings."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
