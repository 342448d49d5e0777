"""Rows of the grouping statements, folded into blocks of cells. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tallykeep.systems.litellm.cells import MICRO, NANO, ZERO, Axis, Cells, Check, Series, Sums
from tallykeep.systems.litellm.ledger import Block
from tallykeep.systems.litellm.statements import DETAILS

Organizations = Callable[[str, str, str], str]  # (of the row, team, key) -> organization, "" for none

NONE = "none"  # the label of what a row does not say
UNKNOWN_MODEL = "unknown"

Row = tuple[Any, ...]  # typed by the docstring of its statement in statements.py


class Rows(NamedTuple):
    """What one reading of a range brought, in one transaction."""

    groups: list[Row]
    durations: list[Row]
    tags: list[Row]
    details: list[Row] = []  # noqa: RUF012  # read of open minutes only, and never changed


_Labels = tuple[str, ...]
_Accounts = dict[_Labels, list[int]]  # mutable sums: a bulk reading raises each many times
_EMPTY = [0] * len(ZERO)


class _Stretch:
    """The accounts of one stretch of time, axis by axis."""

    __slots__ = ("axes",)

    def __init__(self) -> None:
        self.axes: tuple[_Accounts, ...] = tuple({} for _ in Axis)

    def block(self, start: int, step: int) -> Block:
        cells: Cells = {}
        for axis, accounts in zip(Axis, self.axes, strict=True):
            cells |= {Series(axis, labels): Sums._make(sums) for labels, sums in accounts.items()}
        return Block(start, start + step, cells, cells)


def _raise(accounts: _Accounts, labels: _Labels, rows: int, spend: int, prompt: int, completion: int, all: int) -> None:
    at = accounts.get(labels)
    if at is None:
        accounts[labels] = [rows, spend, prompt, completion, all, 0, 0, 0]
    else:  # written out: a million rows come here a million times
        at[0] += rows
        at[1] += spend
        at[2] += prompt
        at[3] += completion
        at[4] += all


def fold(rows: Rows, step: int, organizations: Organizations) -> dict[int, Block]:
    """Blocks of `step` seconds by their start; a stretch without rows has no block."""
    stretches: dict[int, _Stretch] = {}
    _fold_groups(rows.groups, stretches, organizations)
    for start, model, bucket, requests, seconds in rows.durations:
        timed = _at(stretches, start).axes[Axis.DURATION].setdefault((model or UNKNOWN_MODEL, str(bucket)), [*_EMPTY])
        timed[0] += requests
        timed[7] += round(seconds * MICRO)
    for start, array, requests, spend, *tokens in rows.tags:
        accounts, nano = _at(stretches, start).axes[Axis.TAG], round(spend * NANO)
        for tag in tags_of(array):
            _raise(accounts, (tag,), requests, nano, *tokens)
    for start, model, requests, *counts in rows.details:
        accounts = _at(stretches, start).axes[Axis.DETAIL]
        for kind, count in zip(DETAILS, counts, strict=True):
            if count:
                _raise(accounts, (model or UNKNOWN_MODEL, kind), requests, 0, 0, 0, count)
    return {start: stretch.block(start, step) for start, stretch in stretches.items()}


def _fold_groups(groups: Iterable[Row], stretches: dict[int, _Stretch], organizations: Organizations) -> None:
    for start, model, provider, status, error, user, team, own, key, rows, spend, *tokens, hits, misses in groups:
        models, users, teams, owners, keys, *_ = _at(stretches, start).axes
        named, nano = model or UNKNOWN_MODEL, round(spend * NANO)
        labels = (named, provider or NONE, status, error)
        _raise(models, labels, rows, nano, *tokens)
        if hits or misses:
            models[labels][5] += hits
            models[labels][6] += misses
        _raise(users, (user or NONE, named), rows, nano, *tokens)
        _raise(teams, (team or NONE, named), rows, nano, *tokens)
        _raise(owners, (organizations(own, team, key) or NONE, named), rows, nano, *tokens)
        _raise(keys, (key or NONE,), rows, nano, *tokens)


def _at(stretches: dict[int, _Stretch], start: int) -> _Stretch:
    found = stretches.get(start)
    if found is None:
        found = stretches[start] = _Stretch()
    return found


def tags_of(array: object) -> set[str]:
    """The tags of a row: it counts once under each, however often it repeats one."""
    return {tag if isinstance(tag, str) else json.dumps(tag) for tag in array} if isinstance(array, list) else set()


def check_of(cells: Cells) -> Check:
    """The fingerprint that the rows of these cells have."""
    rows = spend = tokens = 0
    for series, sums in cells.items():
        if series.axis is Axis.MODEL:
            rows, spend, tokens = rows + sums.requests, spend + sums.spend, tokens + sums.total_tokens
    return Check(rows, spend, tokens)


def checks_by_hour(rows: Iterable[Row]) -> dict[int, Check]:
    """Fingerprints by the start of their hour."""
    return {hour: Check(count, round(spend * NANO), tokens) for hour, count, spend, tokens in rows}
