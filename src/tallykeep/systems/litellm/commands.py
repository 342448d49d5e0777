"""What the commands of `tallykeep litellm` do, once their arguments are read."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from tallykeep.config.load import PROGRAM, Config
from tallykeep.errors import ConfigError, Malformed, SourceError
from tallykeep.runtime.progress import progress
from tallykeep.systems.litellm import sheets
from tallykeep.systems.litellm.checkup import Checkup, examine, ledger_state
from tallykeep.systems.litellm.entities import Entities
from tallykeep.systems.litellm.keeping import path_of
from tallykeep.systems.litellm.months import Month, find_zone
from tallykeep.systems.litellm.opening import connected
from tallykeep.systems.litellm.reconcile import Line, Reconciliation, Result, smaller
from tallykeep.systems.litellm.report import read_report
from tallykeep.systems.litellm.schema import Schema
from tallykeep.systems.litellm.settings import DatabaseSettings, LitellmSettings

if TYPE_CHECKING:
    from tallykeep.systems.litellm.database import Database


def pick(config: Config, name: str | None) -> DatabaseSettings:
    """The database that is meant. Raises: ConfigError where that is not clear."""
    settings: LitellmSettings = config.section("litellm")
    databases = {one.name: one for one in settings.databases or (DatabaseSettings(),)}
    if name is None and len(databases) == 1:
        return next(iter(databases.values()))
    if name is None:
        raise ConfigError(f"several databases are configured; choose one with --database: {', '.join(databases)}")
    if name not in databases:
        raise ConfigError(f"there is no database {name!r}, only: {', '.join(databases)}")
    return databases[name]


@asynccontextmanager
async def _opened(args: argparse.Namespace) -> AsyncIterator[Database]:
    config: Config = args.load_config(args.config)
    database = connected(pick(config, args.database), config.section("litellm"))
    try:
        yield database
    finally:
        await database.close()


async def _known(database: Database) -> tuple[Schema, Entities]:
    """Schema and everybody. Raises: Malformed where this is no database of LiteLLM's, or not one to be read."""
    schema = await database.schema()
    if lacking := schema.lacking():
        where = f"database {database.name} ({database.address})"
        raise Malformed(f"{where}: {lacking[0].says}; tallykeep litellm check says more")
    from tallykeep.systems.litellm.everybody import read_everybody

    async with database.session() as session:
        return schema, await read_everybody(session, schema)


# --- check


def run_check(args: argparse.Namespace) -> int:
    """`check`."""
    config: Config = args.load_config(args.config)
    chosen = pick(config, args.database)
    ledger = ledger_state(path_of(config.section(PROGRAM).state_dir, chosen.name))
    checkup = asyncio.run(_checked(args))
    checkup.ledger = ledger
    if ledger.trouble:
        checkup.problems.append(f"the ledger {ledger.path} does not serve: {ledger.trouble}")
    _tell(args, checkup.as_json(), checkup.lines(time.time()))
    return checkup.exit_status


async def _checked(args: argparse.Namespace) -> Checkup:
    async with _opened(args) as database:
        checkup = Checkup(database.name, database.address)
        try:
            await examine(database, checkup, time.time(), args.max_age)
        except SourceError as error:
            checkup.reachable = False
            checkup.problems.append(str(error))
        return checkup


# --- reconcile


def run_reconcile(args: argparse.Namespace) -> int:
    """`reconcile`."""
    result = asyncio.run(_reconciled(args))
    _tell(args, _result_as_json(result), _result_lines(result, args.top))
    if not result.lines and result.left_out:
        return 3
    return 1 if result.differences else 0


async def _reconciled(args: argparse.Namespace) -> Result:
    async with _opened(args) as database:
        schema, everybody = await _known(database)
        pass_ = Reconciliation(schema, everybody)
        async with database.session() as session:
            days = await pass_.begin(session)
        with progress("reading", total=days + 1, unit="days", silent=args.json) as meter:
            for _ in range(days):
                async with database.session() as session:
                    await pass_.read(session)
                meter.advance(1)
            result = await _finished(pass_, database)
            meter.advance(1)
        if result.differences and args.patience:
            await asyncio.sleep(args.patience)
            result = smaller(result, await _finished(pass_, database))
        return result


async def _finished(pass_: Reconciliation, database: Database) -> Result:
    async with database.session() as session:
        return await pass_.finish(session)


def _result_lines(result: Result, top: int) -> Iterator[str]:
    found = result.differences
    if not result.lines:
        yield "nobody could be compared"
    elif found:
        yield f"{len(found)} of {len(result.lines)} entities differ by more than a cent; largest first:"
        yield from _difference_table(found[:top])
        if len(found) > top:
            yield f"and {len(found) - top} more (--top)"
    else:
        yield f"equal: {len(result.lines)} entities, each within a cent"
    for kind, count, dollars in result.by_kind():
        yield f"  {kind + ':':<14}{count} compared, {dollars:,.4f} dollars apart in all"
    for kind, count in result.left_out.items():
        yield f"  {kind + ':':<14}{count} not compared: the log may lack the beginning of their cycle"


def _difference_table(lines: Iterable[Line]) -> Iterator[str]:
    rows = [
        [line.kind, sheets.printable(line.id), sheets.printable(line.alias),
         *(f"{amount:,.4f}" for amount in (line.rows, line.spend)), f"{line.difference:+,.4f}"]
        for line in lines
    ]  # fmt: skip
    yield from sheets.table(["type", "id", "alias", "rows", "spend column", "difference"], rows, 3)


def _result_as_json(result: Result) -> dict[str, object]:
    return {
        "equal": bool(result.lines) and not result.differences,
        "compared": {kind: count for kind, count, _ in result.by_kind()},
        "not_compared": dict(result.left_out),
        "difference_dollars": {kind: _number(dollars) for kind, _, dollars in result.by_kind()},
        "differences": [
            {
                "entity_type": line.kind, "entity_id": line.id, "entity_alias": line.alias, "rows": _number(line.rows),
                "spend_column": _number(line.spend), "difference": _number(line.difference),
            }
            for line in result.differences
        ],
    }  # fmt: skip


def _number(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('1e-9')).normalize():f}"


# --- report


def run_report(args: argparse.Namespace) -> int:
    """`report`."""
    if args.csv and args.json:
        raise ConfigError("--csv and --json exclude one another")
    year, number = args.month
    month = Month.of(year, number, find_zone(args.timezone))
    now = time.time()
    if month.start >= now:
        raise ConfigError(f"{month.name} has not begun yet")
    asyncio.run(_reported(args, month, now))
    return 0


async def _reported(args: argparse.Namespace, month: Month, now: float) -> None:
    async with _opened(args) as database:
        schema, everybody = await _known(database)
        days = len(month.days(now))
        with progress(f"reading {month.name}", total=days, unit="days", silent=args.json) as meter:
            report = await read_report(database, schema, month, args.by, now, everybody, meter.advance)
    if args.csv:
        sys.stdout.write(sheets.comma_separated(report, everybody, args.top))
        sys.stderr.writelines(f"note: {note}\n" for note in report.notes())
        return
    _tell(args, sheets.as_json(report, everybody, args.top), sheets.paper(report, everybody, args.top))


def _tell(args: argparse.Namespace, told: dict[str, object], lines: Iterable[str]) -> None:
    if args.json:
        sys.stdout.write(json.dumps(told, indent=2 if sys.stdout.isatty() else None) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
