"""The alerts of the catalogue as a Prometheus rule file.

Source: Prometheus, Defining alerting rules. `promtool check rules` accepts what this returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tallykeep.metrics import Alert, Family

_HEADER = "# Generated from the catalogue by `make docs`; load it with rule_files in prometheus.yml.\n"


def alert_rules(groups: Mapping[str, Iterable[Family]]) -> str:
    """YAML with one rule group for each of `groups` (a system, or tallykeep itself) that has alerts."""
    import yaml  # 50 ms that only this surface pays

    filled = {
        name: [_rule(family, alert) for family in families for alert in family.alerts]
        for name, families in groups.items()
    }
    document = {"groups": [{"name": name, "rules": rules} for name, rules in filled.items() if rules]}
    return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _rule(family: Family, alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.title,
        "expr": alert.expr.replace("{n}", family.name),
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary},
    }
