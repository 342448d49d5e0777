"""Reconciliation at work: a pass over the log now and then, some days of it a collection, and what the last one found.

A pass costs about what a first reading does, so it is made every few hours and in pieces. Its figures stand until
the next pass is through. A statement that is given up ends a pass without figures, and disturbs nothing else.
"""

from __future__ import annotations

import logging
import time

from tallykeep.metrics import Sample
from tallykeep.systems.litellm import families as f
from tallykeep.systems.litellm.database import Cancelled, Database
from tallykeep.systems.litellm.entities import Entities
from tallykeep.systems.litellm.reconcile import Reconciliation, Result
from tallykeep.systems.litellm.schema import Schema

EVERY = 6 * 3600.0  # seconds between the starts of two passes
_SPELL = 0.25  # seconds of a collection after which no other day is read in it
_log = logging.getLogger(__name__)


class Reconciling:
    """The reconciliation of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pass: Reconciliation | None = None
        self._due = 0.0  # Unix seconds
        self._found: list[Sample] = []

    async def step(self, schema: Schema, everybody: Entities, now: float) -> list[Sample]:
        """Go on with the pass, or begin one that is due; what the last one found.

        Raises: the errors of Database.session but Cancelled.
        """
        try:
            if self._pass is None and now >= self._due:
                self._due = now + EVERY
                self._pass = await self._begun(schema, everybody)
            if self._pass is not None and await self._read(self._pass):
                async with self._database.session() as session:
                    self._found = samples(await self._pass.finish(session))
                self._pass = None
        except Cancelled as error:
            _log.warning("reconciliation was given up until the next: %s", error)
            self._pass, self._found = None, []
        except BaseException:
            self._pass, self._due = None, 0.0  # what it knew of the schema may be wrong
            raise
        return self._found

    async def _begun(self, schema: Schema, everybody: Entities) -> Reconciliation:
        begun = Reconciliation(schema, everybody)
        async with self._database.session() as session:
            await begun.begin(session)
        return begun

    async def _read(self, pass_: Reconciliation) -> bool:
        """Read some days; True when only the last is left."""
        until = time.monotonic() + _SPELL
        while time.monotonic() < until:
            async with self._database.session() as session:
                if not await pass_.read(session):
                    return True
        return False


def samples(result: Result) -> list[Sample]:
    """The figures of a pass."""
    found = []
    for kind, count, dollars in result.by_kind():
        found.append(Sample(f.RECONCILIATION, (kind,), float(dollars)))
        found.append(Sample(f.RECONCILED, (kind,), float(count)))
    return found
