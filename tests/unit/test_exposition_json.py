from __future__ import annotations

import json
import math

from tests.support.listening import AGE, DRILLS, SIZE, looked

from tallykeep.exposition.json import families_as_json


def test_every_kind_as_json() -> None:
    """Families with samples; a state set is its state, a histogram its cumulative buckets."""
    found = families_as_json(looked(), 0.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    values = {family["name"]: family["samples"] for family in found if isinstance(family, dict)}
    assert values["replica_size_bytes"] == [{"labels": {"database": "main"}, "value": 4096}]
    assert values["replica_verdict"] == [{"labels": {"database": "main"}, "value": "restorable"}]
    assert values["drill_duration_seconds"] == [
        {"labels": {"database": "main"}, "value": {"buckets": {"0.1": 1, "1.0": 3, "+Inf": 3}, "count": 3, "sum": 1.25}}
    ]


def test_what_a_family_is() -> None:
    """Name, type, unit, labels and help stand beside the samples."""
    [family] = families_as_json([SIZE(0.5, database="a")], 0.0)
    assert isinstance(family, dict)
    assert (family["type"], family["unit"], family["labels"]) == ("gauge", "bytes", ["database"])
    assert family["samples"] == [{"labels": {"database": "a"}, "value": 0.5}]
    assert DRILLS.help == "Drills."


def test_ages_and_numbers_json_cannot_spell() -> None:
    """An age is reckoned as on a page; NaN and the infinities are the strings a page shows."""
    [age, size] = families_as_json([AGE(90.0), SIZE(math.nan, database="a"), SIZE(math.inf, database="b")], 100.0)
    assert isinstance(age, dict) and isinstance(size, dict)
    assert age["samples"] == [{"labels": {}, "value": 10}]
    assert [sample["value"] for sample in size["samples"] if isinstance(sample, dict)] == ["NaN", "+Inf"]  # type: ignore[union-attr] # a list
