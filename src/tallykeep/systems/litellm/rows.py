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


_Accounts = dict[tuple[Axis, tuple[str, ...]], list[int]]  # mutable sums: a bulk reading raises each many times


def _raise(accounts: _Accounts, account: tuple[Axis, tuple[str, ...]], amounts: tuple[int, ...]) -> None:
    at = accounts.get(account)
    if at is None:
        accounts[account] = [*amounts, *(0,) * (len(ZERO) - len(amounts))]
    else:
        for i, amount in enumerate(amounts):
            at[i] += amount


def fold(rows: Rows, step: int, organizations: Organizations) -> dict[int, Block]:
    """Blocks of `step` seconds by their start; a stretch without rows has no block."""
    stretches: dict[int, _Accounts] = {}
    for start, model, provider, status, error, user, team, own, key, *sums, hits, misses in rows.groups:
        into = stretches.setdefault(start, {})
        requests, spend, *tokens = sums
        amounts = (requests, round(spend * NANO), *tokens)
        named = model or UNKNOWN_MODEL
        _raise(into, (Axis.MODEL, (named, provider or NONE, status, error)), (*amounts, hits, misses))
        _raise(into, (Axis.USER, (user or NONE, named)), amounts)
        _raise(into, (Axis.TEAM, (team or NONE, named)), amounts)
        _raise(into, (Axis.ORGANIZATION, (organizations(own, team, key) or NONE, named)), amounts)
        _raise(into, (Axis.KEY, (key or NONE,)), amounts)
    for start, model, bucket, requests, seconds in rows.durations:
        timed = (requests, 0, 0, 0, 0, 0, 0, round(seconds * MICRO))
        _raise(stretches.setdefault(start, {}), (Axis.DURATION, (model or UNKNOWN_MODEL, str(bucket))), timed)
    for start, array, requests, spend, *tokens in rows.tags:
        amounts = (requests, round(spend * NANO), *tokens)
        for tag in tags_of(array):
            _raise(stretches.setdefault(start, {}), (Axis.TAG, (tag,)), amounts)
    for start, model, requests, *counts in rows.details:
        for kind, count in zip(DETAILS, counts, strict=True):
            if count:
                told = (requests, 0, 0, 0, count)
                _raise(stretches.setdefault(start, {}), (Axis.DETAIL, (model or UNKNOWN_MODEL, kind)), told)
    return {start: _block(start, step, accounts) for start, accounts in stretches.items()}


def _block(start: int, step: int, accounts: _Accounts) -> Block:
    cells = {Series(axis, labels): Sums(*sums) for (axis, labels), sums in accounts.items()}
    return Block(start, start + step, cells, cells)


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
