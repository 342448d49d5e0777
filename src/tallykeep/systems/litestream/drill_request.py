"""What a restore drill is asked to do: sent as JSON through the worker's standard input, since it carries secrets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tallykeep.config.model import Secret
from tallykeep.systems.litestream.drill_result import Question
from tallykeep.systems.litestream.ltx.txid import Txid
from tallykeep.systems.litestream.targets import Credentials, Target
from tallykeep.systems.litestream.urls import ReplicaUrl


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """One drill of one target."""

    target: Target
    scratch: Path  # a folder of its own: made for the drill, gone after it
    txid: Txid | None = None  # None: the newest
    full: bool = False  # integrity_check; else quick_check
    questions: tuple[Question, ...] = ()

    def dump(self) -> str:
        """One line of JSON, secrets among it: not for logs, not for arguments."""
        target, keys = self.target, self.target.credentials
        return json.dumps(
            {
                "name": target.name,
                "local": _text(target.local),
                "database": _text(target.database),
                "replica": None if target.replica is None else asdict(target.replica),
                "credentials": [keys.key_id, keys.secret.reveal(), keys.session_token.reveal()],
                "scratch": str(self.scratch),
                "txid": None if self.txid is None else str(self.txid),
                "full": self.full,
                "questions": self.questions,
            },
            default=str,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `dump` gave."""
        fields: dict[str, Any] = json.loads(text)
        replica = fields["replica"]
        if replica is not None:
            replica = ReplicaUrl(**replica | {"path": _path(replica["path"])})
        key_id, secret, token = fields["credentials"]
        target = Target(
            fields["name"],
            _path(fields["local"]),
            _path(fields["database"]),
            replica,
            Credentials(key_id, Secret(secret), Secret(token)),
        )
        return cls(
            target,
            Path(fields["scratch"]),
            None if fields["txid"] is None else Txid.parse(fields["txid"]),
            fields["full"],
            tuple(Question(*question) for question in fields["questions"]),
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
