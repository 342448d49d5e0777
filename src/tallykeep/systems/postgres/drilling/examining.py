"""What is asked of a restored server: collations, pg_amcheck, the user's questions. And of its files: page checksums.

Source: PostgreSQL, pg_amcheck (status 2: corruption was found); pg_database.datcollversion, from 15 on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import TallykeepError
from tallykeep.runtime.processes import ManagedProcess
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres import pagesum
from tallykeep.systems.postgres.drilling.result import Answer, DrillResult
from tallykeep.systems.postgres.replication import ServerError
from tallykeep.systems.postgres.settings import QuestionSettings
from tallykeep.systems.postgres.throwaway.programs import Programs
from tallykeep.systems.postgres.throwaway.server import RestoredServer

SOUND, CORRUPT, OFF = "sound", "corrupt", "off"
_POLL = 0.05  # seconds between two looks at pg_amcheck
_MOST = 10  # problems that are told
_PATIENCE = 60.0  # seconds for a question of our own
_LONGEST = 200  # characters of an answer that are kept
_CORRUPTION = 2  # status of pg_amcheck
_ABSENT = re.compile(r"could not access file|could not load library|No space left|out of memory", re.IGNORECASE)
_UNDEFINED_FILE = "58P01"
_VERSIONED = 150_000  # the first server_version_num that remembers the collations of databases
_COLLATIONS = (
    "SELECT datname, datcollversion, pg_catalog.pg_database_collation_actual_version(oid) FROM pg_catalog.pg_database "
    "WHERE datcollversion <> pg_catalog.pg_database_collation_actual_version(oid)"
)


async def foreign_collations(server: RestoredServer, result: DrillResult) -> bool:
    """Whether text sorts otherwise here than where it came from, which is noted: sound indexes then look corrupt."""
    if result.version < _VERSIONED:
        return False
    rows = await in_thread(server.rows, "template1", _COLLATIONS, _PATIENCE)
    for name, then, now in rows:
        result.notes.append(
            f"database {name}: text sorts by collation version {now} here, and by {then} on the primary"
        )
    return bool(rows)


async def check_indexes(
    server: RestoredServer, programs: Programs, folder: Path, result: DrillResult, clock: Clock
) -> None:
    """Have pg_amcheck look at every table and B-tree of every database."""
    if programs.amcheck is None:
        result.open_question(
            "amcheck",
            f"pg_amcheck {programs.major} or newer is not installed here, so no index was checked: install the "
            "client programs of PostgreSQL, or set drill.amcheck: false.",
        )
        return
    sorted_otherwise = await foreign_collations(server, result)
    status, said = await _amcheck(server, programs.amcheck, folder, clock)
    findings = [line for line in said.splitlines() if line.strip()]
    if status == 0:
        result.amcheck = SOUND
    elif status == _CORRUPTION and not sorted_otherwise and (wrong := _found(findings)):
        result.amcheck = CORRUPT
        for problem in wrong[:_MOST]:
            result.problem("amcheck", f"pg_amcheck: {problem}")
    else:
        last = " ".join(line.strip() for line in findings[-2:]) or f"it ended with status {status}"
        result.open_question("amcheck", f"pg_amcheck could not check everything: {last}")


async def _amcheck(server: RestoredServer, program: Path, folder: Path, clock: Clock) -> tuple[int, str]:
    log = folder / "pg_amcheck.log"
    argv = [str(program), "--all", "--install-missing", f"--jobs={min(4, os.cpu_count() or 1)}", "--no-password"]
    process = ManagedProcess(argv, env=server.clients(), log=log)
    await in_thread(process.start)
    try:
        while process.alive:
            await clock.sleep(_POLL)
    finally:
        process.kill()
    return process.returncode or 0, await in_thread(log.read_text, errors="replace")


def _found(lines: Sequence[str]) -> list[str]:
    """Findings, each with what it is about on the same line; not those for which something is missing here."""
    found: list[str] = []
    for line in lines:
        if line.startswith((" ", "\t")) and found:
            found[-1] = f"{found[-1]} {line.strip()}"
        else:
            found.append(line.strip())
    return [each for each in found if not _ABSENT.search(each)]


async def ask(
    server: RestoredServer, questions: Sequence[QuestionSettings], result: DrillResult, seconds: float
) -> None:
    """Ask every question; each may take `seconds`."""
    for question in questions:
        name = question.name or question.sql
        try:
            rows = await in_thread(server.rows, question.database, question.sql, seconds)
            said = "NULL" if not rows or not rows[0] or rows[0][0] is None else rows[0][0]
        except ServerError as error:
            if error.state == _UNDEFINED_FILE:
                result.open_question("questions", f"{name}: {error}")
                continue
            said = str(error)
        except (TallykeepError, UnicodeDecodeError) as error:
            said = str(error)
        right, said = said == question.expected, said[:_LONGEST]
        result.answers.append(Answer(name, right, said))
        if not right:
            result.problem("questions", f"{name}: the answer is {said!r}, and {question.expected!r} is right")


async def check_pages(data: Path, result: DrillResult, advance: Callable[[int], None]) -> None:
    """Prove the checksum of every page of the stopped server, where it has them."""
    pages, problems = await in_thread(pagesum.check_files, data, advance)
    result.pages = pages or 0
    result.checksums = OFF if pages is None else CORRUPT if problems else SOUND
    for problem in problems[:_MOST]:
        result.problem("checksums", problem)
