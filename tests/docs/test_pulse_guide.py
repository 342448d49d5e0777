"""What the pulse guide tells people to paste works: fields exist, and Home Assistant accepts the classes."""

from __future__ import annotations

import re
from typing import Any

import yaml
from tests.support.documents import ROOT, blocks
from tests.support.pulse import Pulse, settings_of

GUIDE = ROOT / "docs/guide/pulse.md"
ORIGINAL = (
    "litellm_requests", "litellm_tokens", "litellm_spend", "litellm_spend_today", "litellm_spend_this_month",
    "litellm_tokens_today",
)  # fmt: skip
# Home Assistant, developers' docs, sensor entities: the state classes a device class goes with; None is none
ACCEPTED: dict[str | None, set[str | None]] = {
    None: {None, "measurement", "total", "total_increasing"},
    "monetary": {None, "total"},
}


def documents(key: str) -> list[Any]:
    """The YAML blocks of the guide that have this text."""
    return [yaml.safe_load(block.text) for block in blocks(GUIDE, "yaml") if key in block.text]


async def test_home_assistant_sensors() -> None:
    """The original's sensors by their unique ids: each reads a field that is there, with classes that go together."""
    sensors = documents("rest:")[0]["rest"][0]["sensor"]
    assert tuple(sensor["unique_id"] for sensor in sensors) == ORIGINAL
    async with Pulse(settings_of()) as pulse:
        told = pulse.desk.summary()
    for sensor in sensors:
        assert sensor.get("state_class") in ACCEPTED[sensor.get("device_class")], sensor["name"]
        (field,) = re.findall(r"value_json\.(\w+)", sensor["value_template"])
        assert field in told
        if sensor.get("state_class") == "total" or sensor["unique_id"] in ("litellm_requests", "litellm_tokens"):
            assert field.endswith("_lifetime")


async def test_homepage_mappings() -> None:
    """Each field of the Homepage widget is one of the summary."""
    widget = documents("customapi")[0][0]["LiteLLM"]["widget"]
    async with Pulse(settings_of()) as pulse:
        assert {mapping["field"] for mapping in widget["mappings"]} <= set(pulse.desk.summary())
