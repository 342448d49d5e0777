"""Real servers as fixtures. Each xdist worker has its own, and the kernel ends them when the worker dies."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tallykeep.demo.seaweedfs import MISSING, PROGRAM, SeaweedFS
from tallykeep.runtime.processes import find_program

_buckets = itertools.count(1)


def need(program: str, how: str) -> None:
    """Skip the test where `program` is missing, saying `how` to get it; where CI=true that is a failure."""
    if find_program(program) is None:
        _give_up(f"{program} is missing: {how}")


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running S3 server. A test that freezes or stops it takes `own_seaweedfs` instead."""
    need(PROGRAM, MISSING)
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def own_seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running S3 server of this test alone, to be frozen, killed and started again."""
    need(PROGRAM, MISSING)
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def bucket(seaweedfs: SeaweedFS) -> str:
    """A new, empty bucket on `seaweedfs`."""
    name = f"bucket-{next(_buckets)}"
    seaweedfs.create_bucket(name)
    return name
