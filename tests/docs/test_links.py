"""Links between pages lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.documents import anchors, documents, links, name


@pytest.mark.parametrize("page", documents(), ids=name)
def test_relative_links_resolve(page: Path) -> None:
    """Every relative link names a file or folder of the repository, and its anchor a heading of that page."""
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}: no such heading"
