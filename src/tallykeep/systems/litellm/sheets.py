"""Reports and reconciliations on paper: aligned text, CSV, JSON. Pure.

Money is written with as many decimals as the finest figure of its column needs, two at least: what is printed adds
up to what is printed below it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from tallykeep.systems.litellm.entities import Entities
from tallykeep.systems.litellm.report import Amounts, Report
from tallykeep.units import format_timestamp

_AMOUNTS = ("spend", "requests", "failures", "prompt_tokens", "completion_tokens", "total_tokens")
_WIDEST = 48  # characters of a name; longer ones are cut on paper, never in CSV and JSON


def decimals(amounts: Iterable[Decimal]) -> int:
    """Decimals that show every one of these in full, two at least."""
    return max([2, *(-int(amount.normalize().as_tuple().exponent) for amount in amounts)])


def money(amount: Decimal, places: int) -> str:
    """1,234.50."""
    return f"{amount:,.{places}f}"


def printable(name: str) -> str:
    """A name on one line of paper."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in name)
    return shown if len(shown) <= _WIDEST else shown[: _WIDEST - 1] + "…"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """Aligned columns, the first `left` of them to the left."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def paper(report: Report, everybody: Entities, top: int | None) -> Iterator[str]:
    """For people."""
    lines = report.lines(everybody, top)
    total = report.total(lines)
    places = decimals([total.spend, *(line.amounts.spend for line in lines)])
    columns = report.dimension.columns
    heads = [*columns, "dollars", *_AMOUNTS[1:]]
    rows = [[*map(printable, line.names), *_figures(line.amounts, places)] for line in lines]
    rows.append(["total", *("" for _ in columns[1:]), *_figures(total, places)])
    yield f"{report.month.name} by {report.by}, {report.month.zone.key}"
    yield from table(heads, rows, len(columns))
    yield from (f"note: {note}" for note in report.notes())


def _figures(amounts: Amounts, places: int) -> list[str]:
    return [money(amounts.spend, places), *(f"{count:,}" for count in amounts[1:])]


def comma_separated(report: Report, everybody: Entities, top: int | None) -> str:
    """For spreadsheets: a head, the lines, and no total, which a spreadsheet makes itself."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow([*report.dimension.columns, "spend_dollars", *_AMOUNTS[1:]])
    for line in report.lines(everybody, top):
        writer.writerow([*map(_inert, line.names), _plain(line.amounts.spend), *line.amounts[1:]])
    return sheet.getvalue()


def _inert(name: str) -> str:
    """A name that a spreadsheet would take for a formula, as text."""
    return f"'{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def as_json(report: Report, everybody: Entities, top: int | None) -> dict[str, object]:
    """One object; money as text, which loses nothing."""
    lines = report.lines(everybody, top)
    return {
        "month": report.month.name,
        "timezone": report.month.zone.key,
        "by": report.by,
        "start": format_timestamp(report.month.start),
        "stop": format_timestamp(report.until),
        "month_is_over": not report.running,
        "log_reaches_back": report.reaches_back,
        "log_oldest_row": None if report.oldest is None else format_timestamp(report.oldest),
        "lines": [
            dict(zip(report.dimension.columns, line.names, strict=True)) | _object(line.amounts) for line in lines
        ],
        "total": _object(report.total(lines)),
        "notes": list(report.notes()),
    }


def _object(amounts: Amounts) -> dict[str, object]:
    return {"spend_dollars": _plain(amounts.spend)} | dict(zip(_AMOUNTS[1:], amounts[1:], strict=True))
