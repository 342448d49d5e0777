"""Names that people may choose, on the page and in a real Prometheus."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.support.litellm import LitellmWatch, Tables, reading, serving, tags
from tests.support.postgres import MakeDatabase
from tests.support.prometheus import PrometheusServer

pytestmark = pytest.mark.server
HOSTILE = {
    "quotes": 'he said "no"',
    "backslash": "C:\\new\\table\\",
    "newline": "one\ntwo\r\nthree",
    "braces": 'a} 1 {b="c"',
    "hash": "# HELP x y",
    "emoji": "🦀 Größe 日本語",
    "separators": "a\u2028b\u0085c\x0bd\x1ce",
    "bidi": "abc\u202edef",
    "combining": "e\u0301" * 50,
    "empty-looking": "   ",
    "long": "x" * 10_000,
    "none": "none",
    "markup": "<script>alert(1)</script>",
}


def hostile(url: str) -> None:
    """Everything that has a name has these."""
    now = time.time()
    with Tables(url) as tables:
        for at, name in enumerate(HOSTILE.values()):
            tables.user(f"u{at}{name}", user_alias=name)
            tables.key(f"k{at}", key_alias=name, user_id=f"u{at}{name}", key_name=name[:100])
            tables.team(f"t{at}{name}", team_alias=name)
            row = {"user": f"u{at}{name}", "team_id": f"t{at}{name}", "api_key": f"k{at}", "request_tags": tags(name)}
            tables.request(now - 60, model=name, spend=at + 1, **row)


async def test_hostile_names_reach_prometheus(litellm_database: MakeDatabase, tmp_path: Path) -> None:
    """Each name comes back from a real Prometheus as it stands in the database, with its figure, and none is lost."""
    url = litellm_database()
    hostile(url)
    async with LitellmWatch(reading(url), tmp_path / "state") as watch, serving(watch) as port:
        await watch.works()
        server = PrometheusServer(tmp_path / "prometheus", [f"127.0.0.1:{port}"])
        await asyncio.to_thread(server.start)
        try:
            found: dict[str, dict[tuple[str, ...], float]] = {}
            for name, labels in FAMILIES.items():
                series = await asyncio.to_thread(server.there, name)
                found[name] = {tuple(s["metric"][label] for label in labels): float(s["value"][1]) for s in series}
        finally:
            await asyncio.to_thread(server.stop)
    names = list(HOSTILE.values())
    assert found["litellm_tag_spend"] == {(name,): at + 1 for at, name in enumerate(names)}
    assert found["litellm_total_spend"] == {(name,): at + 1 for at, name in enumerate(names)}
    assert found["litellm_user_spend"] == {(f"u{at}{name}", name, name): at + 1 for at, name in enumerate(names)}
    assert found["litellm_team_spend"] == {(f"t{at}{name}", name, name): at + 1 for at, name in enumerate(names)}
    assert found["litellm_key_hash_spend"] == {(f"k{at}", name): at + 1 for at, name in enumerate(names)}


FAMILIES = {
    "litellm_tag_spend": ("tag",),
    "litellm_total_spend": ("model",),
    "litellm_user_spend": ("user_id", "user_alias", "model"),
    "litellm_team_spend": ("team_id", "team_alias", "model"),
    "litellm_key_hash_spend": ("key_hash", "key_alias"),
}
