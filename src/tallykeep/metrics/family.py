"""A metric family, declared once as a frozen value under the exact published name.

Everything that shows a figure (page, docs, dashboards, alert rules) is a function of families and samples, so
`grep NAME` finds one declaration. Calling a family makes a checked `Sample`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum

from tallykeep.metrics.sample import Distribution, Sample
from tallykeep.units import Unit

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_DOTTED = re.compile(r"[a-zA-Z]\w*(\.\w+)+", re.ASCII)

UNKNOWN = "unknown"  # the state every verdict falls back to when its source falls silent


class Kind(Enum):
    """The type a family is announced as."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    STATE_SET = "stateset"  # one sample a state, exactly one of them 1: a verdict is never absent


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert rule over its own family: `{n}` stands for the name, so a rename cannot orphan it."""

    title: str  # CamelCase, unique in the catalogue
    expr: str  # PromQL with {n}
    summary: str  # one sentence for the person woken up; may use {{ $labels.x }}
    hold: str = "5m"  # how long the expression must hold
    severity: str = "warning"  # warning or critical


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: hashed by identity, on every sample of every page
class Family:
    """One metric family under the name an operator greps for."""

    name: str
    kind: Kind
    unit: Unit
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()  # upper bounds in `unit`, ascending, without +Inf
    states: tuple[str, ...] = ()  # of a state set; one of them is UNKNOWN
    alerts: tuple[Alert, ...] = ()
    legacy: str = ""  # why a published name may break the naming rule
    age: bool = False  # samples hold Unix timestamps; pages show seconds since then, reckoned at each send
    countdown: bool = False  # the same, with seconds until then: below zero once it has passed
    otel: str = ""  # the dotted name published to OpenTelemetry, of which `name` is the standard translation

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a metric name")
        for label in self.labels:
            if not _LABEL.fullmatch(label) or label.startswith("__") or label in ("le", "quantile", self.name):
                raise ValueError(f"{self.name}: {label!r} cannot be a label here")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{self.name}: a label stands twice")
        end = self.unit.suffix + "_total" * (self.kind is Kind.COUNTER)
        if not (self.legacy or self.name.endswith(end)):
            raise ValueError(f"{self.name}: should end with {end!r}; rename it, or say why in legacy=")
        if self.kind is Kind.COUNTER and not self.name.endswith("_total"):
            raise ValueError(f"{self.name}: every counter ends with '_total': OpenMetrics knows no other")
        if (self.kind is Kind.HISTOGRAM) != bool(self.buckets):
            raise ValueError(f"{self.name}: histograms have buckets, and nothing else has")
        if list(self.buckets) != sorted(set(self.buckets)) or math.inf in self.buckets:
            raise ValueError(f"{self.name}: buckets ascend and leave +Inf out")
        if (self.kind is Kind.STATE_SET) != bool(self.states) or (self.states and UNKNOWN not in self.states):
            raise ValueError(f"{self.name}: state sets, and only they, have states, {UNKNOWN!r} among them")
        if self.otel and not _DOTTED.fullmatch(self.otel):
            raise ValueError(f"{self.name}: {self.otel!r} is not a dotted name such as klio.wal.written")
        if (self.age or self.countdown) and (self.kind is not Kind.GAUGE or (self.age and self.countdown)):
            raise ValueError(f"{self.name}: only a gauge can be an age or a countdown, and only one of them")

    @property
    def moving(self) -> bool:
        """Whether samples hold timestamps, so that what is shown depends on when."""
        return self.age or self.countdown

    def shown(self, value: float, now: float) -> float:
        """The number a page shows for a sample's `value` at `now`, in Unix seconds."""
        if self.age:
            return now - value
        return value - now if self.countdown else value

    def __call__(self, value: float | str | Distribution, **labels: object) -> Sample:
        """A sample of this family.

        `value` is a number; for a state set the name of the state that holds; for a histogram a Distribution.

        Raises: TypeError for other labels or another type than the family's, ValueError for a value it cannot have.
        """
        if len(labels) != len(self.labels) or any(name not in labels for name in self.labels):
            raise TypeError(f"{self.name} takes labels {self.labels}, got {tuple(labels)}")
        return Sample(self, tuple(str(labels[name]) for name in self.labels), self._checked(value))

    def _checked(self, value: float | str | Distribution) -> float | str | Distribution:
        if self.kind is Kind.STATE_SET:
            if value not in self.states:
                raise ValueError(f"{self.name} is one of {self.states}, not {value!r}")
            return value
        if self.kind is Kind.HISTOGRAM:
            if not isinstance(value, Distribution) or len(value.counts) != len(self.buckets) + 1:
                raise ValueError(f"{self.name} takes a Distribution over its {len(self.buckets)} buckets and +Inf")
            return value
        if isinstance(value, (str, Distribution)):
            raise TypeError(f"{self.name} takes a number, not {value!r}")
        return float(value)
