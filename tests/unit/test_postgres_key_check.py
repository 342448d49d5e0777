"""The key of a cluster is proved before anything is written with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.postgres_verify import cluster_in
from tests.support.postgres_wal import KEY

from tallykeep.errors import ConfigError
from tallykeep.systems.postgres.cluster import KEY_CHECK, prepare
from tallykeep.systems.postgres.settings import Tier2Settings

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


@pytest.mark.parametrize("tier2", ["archive", "archive/main", "link", "archive/main/base"])
async def test_a_tier_2_that_is_tier_1_is_refused(tmp_path: Path, tier2: str) -> None:
    """Each would let go of what the other holds, and every byte be gone; a link to it is the same."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "archive")
    with pytest.raises(ConfigError, match="one folder is no second copy"):
        await prepare(cluster_in(tmp_path / "archive", Tier2Settings(url=str(tmp_path / tier2))))
    await prepare(cluster_in(tmp_path / "archive", Tier2Settings(url=str(tmp_path / "elsewhere"))))


def files(folder: Path) -> list[Path]:
    """Everything below a folder."""
    return sorted(folder.rglob("*"))
