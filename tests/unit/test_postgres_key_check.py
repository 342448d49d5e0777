"""The key of a cluster is proved before anything is written with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.postgres_verify import cluster_in
from tests.support.postgres_wal import KEY

from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.cluster import KEY_CHECK, prepare

_OTHER = bytes(32)


@pytest.mark.parametrize(
    ("first", "second"), [(KEY, _OTHER), (KEY, None), (None, KEY)], ids=["another", "none any more", "one at last"]
)
async def test_a_wrong_key_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, first: bytes | None, second: bytes | None
) -> None:
    """Another key, none where there was one, and one where there was none; the right one goes on."""
    await prepare(cluster_in(tmp_path, key=first))
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=f"main/{KEY_CHECK}.*key"):
        await prepare(cluster_in(tmp_path, key=second))
    assert files(tmp_path) == before
    await prepare(cluster_in(tmp_path, key=first))


def files(folder: Path) -> list[Path]:
    """Everything below a folder."""
    return sorted(folder.rglob("*"))
