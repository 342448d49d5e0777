"""Every family of the program, in the order in which pages and docs show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tallykeep.metrics.family import Family


class Catalogue:
    """An ordered, read-only set of families with unique names and unique alert titles."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families: Mapping[str, Family] = self._checked(tuple(families))

    @staticmethod
    def _checked(families: tuple[Family, ...]) -> dict[str, Family]:
        found: dict[str, Family] = {}
        titles: set[str] = set()
        for family in families:
            if found.setdefault(family.name, family) is not family:
                raise ValueError(f"{family.name} is declared twice")
            for alert in family.alerts:
                if alert.title in titles:
                    raise ValueError(f"the alert {alert.title} is declared twice")
                titles.add(alert.title)
        return found

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())

    def __len__(self) -> int:
        return len(self._families)

    def __contains__(self, family: object) -> bool:
        return isinstance(family, Family) and self._families.get(family.name) is family

    def get(self, name: str) -> Family | None:
        """The family of that exact name, or None."""
        return self._families.get(name)
