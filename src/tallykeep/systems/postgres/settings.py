"""Settings of PostgreSQL protection: clusters, the two tiers, the queue, and what runs on a schedule.

Tier 1 is the folder `archive`, with one folder for each cluster; tier 2 is a bucket or a folder elsewhere. Variables
describe the cluster named default, and the tiers that all clusters share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tallykeep.config.model import Secret, group, setting, several, targets
from tallykeep.config.parse import FLAG, PATH, TEXT, Parser, duration, integer, one_of

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_SLOT = re.compile(r"[a-z0-9_]{1,63}")
_WHOLE = integer(low=0)
NEVER = "never"  # a schedule that is none
RESERVED = ("queue", "scratch")  # folders of the archive that are no cluster's


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in RESERVED:
        raise ValueError(text)
    return text


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", text):
        raise ValueError(text)
    return text


def _slot(text: str) -> str:
    if not _SLOT.fullmatch(text):
        raise ValueError(text)
    return text


def _cron(text: str) -> str:
    """A cron expression, read once to be sure of it; "" for never."""
    if text.lower() == NEVER:
        return ""
    from tallykeep.systems.postgres.cron import check

    return check(text)


NAME = Parser(_name, f"letters, digits, _ . and -, 63 at most; not {' or '.join(RESERVED)}")
PREFIX = Parser(_prefix, "letters, digits, _ and -, 32 at most")
SLOT = Parser(_slot, "small letters, digits and _, 63 at most: what PostgreSQL takes as a slot's name")
CRON = Parser(_cron, f'five fields of cron, such as "30 2 * * *", or {NEVER}')


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """A PostgreSQL cluster."""

    name: str = setting("default", parse=NAME, help="Its name in labels, folders and keys.")
    url: Secret = setting(
        Secret(""), env="TALLYKEEP_POSTGRES_URL", switch=True, parse=Secret,
        help="Connection string of libpq, a URL or key=value pairs: a role with REPLICATION and LOGIN. Several hosts "
        "with target_session_attrs=read-write follow a primary that moves. PGPASSWORD, PGPASSFILE and so on hold. "
        "Without it the cluster can be restored, verified and drilled, and not backed up.",
    )  # fmt: skip
    slot: str = setting(
        "tallykeep", env="TALLYKEEP_POSTGRES_SLOT", parse=SLOT, help="Replication slot, made where it is not there."
    )


@dataclass(frozen=True, slots=True)
class Tier2Settings:
    """Object storage that WAL and base backups are copied to."""

    url: str = setting(
        "", env="TALLYKEEP_POSTGRES_TIER2", switch=False,
        help="s3://bucket/prefix, gs://bucket/prefix, azure://container/prefix, or a folder on another disk. "
        "Empty: there is no tier 2.",
    )  # fmt: skip
    endpoint: str = setting(
        "", env="TALLYKEEP_POSTGRES_S3_ENDPOINT", help="s3, gs, azure: URL of what speaks the protocol (R2, MinIO)."
    )
    region: str = setting("", env="TALLYKEEP_POSTGRES_S3_REGION", help="s3: region; else AWS_REGION.")
    access_key: str = setting(
        "", env="TALLYKEEP_POSTGRES_S3_ACCESS_KEY_ID", help="s3: access key id; else AWS_* variables and roles."
    )
    secret_key: Secret = setting(
        Secret(""), env="TALLYKEEP_POSTGRES_S3_SECRET_ACCESS_KEY", parse=Secret, help="s3: secret access key."
    )
    session_token: Secret = setting(
        Secret(""), env="TALLYKEEP_POSTGRES_S3_SESSION_TOKEN", parse=Secret, help="s3: session token."
    )
    path_style: bool = setting(True, help="s3: bucket in the path of requests.")
    ca_file: Path | None = setting(
        None, env="TALLYKEEP_POSTGRES_S3_CA_FILE", parse=PATH, help="s3: CA of the endpoint's certificate."
    )
    account_name: str = setting("", help="azure: storage account.")
    account_key: Secret = setting(Secret(""), parse=Secret, help="azure: key of the account.")
    service_account_path: Path | None = setting(None, parse=PATH, help="gs: file of a service account.")
    timeout: float = setting("60", parse=duration(low=0.1), help="Time after which a request has failed.")
    parallel: int = setting(4, parse=integer(1, 64), help="Uploads at a time.")
    partial_every: float = setting(
        "60", parse=duration(),
        help="A segment that is not complete goes to tier 2 as well, as far as it is, at most this often; 0: never.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The JetStream queue between the tiers."""

    url: Secret = setting(
        Secret(""), env="TALLYKEEP_POSTGRES_NATS_URL", parse=Secret,
        help="nats://... of a cluster with JetStream. Empty: a server of our own, a child of this process.",
    )  # fmt: skip
    credentials: Path | None = setting(None, parse=PATH, help="Credentials file of NATS.")
    ca_file: Path | None = setting(None, parse=PATH, help="CA of the NATS servers' certificates.")
    replicas: int = setting(1, parse=integer(1, 5), help="Copies of the streams in a cluster of several servers.")
    prefix: str = setting(
        "tallykeep", parse=PREFIX,
        help="What the names of streams begin with: one of its own for each server that shares a NATS cluster.",
    )  # fmt: skip
    reconcile_every: float = setting(
        "10m", parse=duration(low=1), help="Time between two comparisons of the tiers; what is missing is queued again."
    )
    wal_attempts: int = setting(10, parse=integer(1, 1000), help="Attempts at a WAL file until it counts as failed.")
    backup_attempts: int = setting(5, parse=integer(1, 1000), help="Attempts at a base backup, the same.")
    retry_after: float = setting("30", parse=duration(low=0.05), help="Time before the second attempt; then doubled.")
    retry_at_most: float = setting("5m", parse=duration(low=0.05), help="The longest time between two attempts.")


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """Base backups."""

    schedule: str = setting(
        "30 2 * * *", parse=CRON, help="When they are taken, as cron says it. never: by command alone."
    )
    timezone: str = setting("UTC", help="Time zone of every schedule in this section, such as Europe/Berlin.")
    verify: bool = setting(True, parse=FLAG, help="Read every byte of a backup once it has been taken.")
    compression_level: int = setting(1, parse=integer(1, 19), help="Of zstd.")


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """What a tier keeps. A backup that any rule keeps is kept, with the WAL that leads on from it."""

    keep_latest: int = setting(7, parse=_WHOLE, help="The newest backups.")
    keep_hourly: int = setting(0, parse=_WHOLE, help="The newest backup of each of the last hours that have one.")
    keep_daily: int = setting(0, parse=_WHOLE, help="The same by days.")
    keep_weekly: int = setting(0, parse=_WHOLE, help="The same by ISO weeks.")
    keep_monthly: int = setting(0, parse=_WHOLE, help="The same by months.")
    keep_annual: int = setting(0, parse=_WHOLE, help="The same by years.")
    pitr: float = setting(
        "7d", parse=duration(), help="Every moment of so long can be restored: what that takes is never deleted."
    )
    grace: float = setting(
        "24h", parse=duration(), help="Time between letting a backup go and deleting its bytes. Until then it is there."
    )


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """Reading back what was stored."""

    schedule: str = setting(
        "0 5 * * 0", parse=CRON, help="When every byte of each tier is read. never: by command alone."
    )


@dataclass(frozen=True, slots=True)
class QuestionSettings:
    """A question to the restored cluster and its right answer."""

    name: str = setting("", help="What is asserted, for messages.")
    database: str = setting("postgres", help="Where it is asked.")
    sql: str = setting("", help="A query, such as SELECT count(*) > 0 FROM orders.")
    expected: str = setting("t", help="Its right answer: the first column of its first row, as text.")
    cluster: str = setting("", help="The cluster that is asked, where there are several. Empty: every one.")

    def __post_init__(self) -> None:
        if not self.sql:
            raise ValueError("give sql: the question")


@dataclass(frozen=True, slots=True)
class DrillSettings:
    """Restoring for practice."""

    schedule: str = setting(
        "0 4 * * *", env="TALLYKEEP_POSTGRES_DRILL_SCHEDULE", parse=CRON,
        help="When a drill is held. never: by command alone. It takes PostgreSQL's programs of the cluster's major "
        "version; where they are not there it is inconclusive, and alerts say so.",
    )  # fmt: skip
    tier: str = setting(
        "cold", parse=one_of("cold", "1", "2"),
        help="cold: from tier 2 alone, with the key from the recovery file; from tier 1 where there is no tier 2.",
    )  # fmt: skip
    recovery_file: Path | None = setting(
        None, parse=PATH, help="The file that holds the key as it would be after a disaster. Without it `key_file`."
    )
    scratch: Path | None = setting(None, parse=PATH, help="Folder to restore into; in `archive` without it.")
    bin: Path | None = setting(
        None, env="TALLYKEEP_POSTGRES_BIN", parse=PATH,
        help="Folder of PostgreSQL's programs of the cluster's major version. Found by itself where it is not given.",
    )  # fmt: skip
    user: str = setting("nobody", help="Who runs PostgreSQL where tallykeep is root: it refuses to run as root.")
    timeout: float = setting("6h", parse=duration(low=1), help="Time after which a drill is given up.")
    amcheck: bool = setting(True, parse=FLAG, help="Check every B-tree with pg_amcheck.")
    questions: tuple[QuestionSettings, ...] = targets(QuestionSettings, help="Questions to the restored cluster.")
    settings: tuple[str, ...] = several(parse=TEXT, help="Settings of the server, such as shared_buffers=1GB.")

    def questions_to(self, cluster: str) -> tuple[QuestionSettings, ...]:
        """Those that a cluster is asked."""
        return tuple(question for question in self.questions if question.cluster in ("", cluster))


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """Everything that can be said of PostgreSQL protection."""

    archive: Path = setting(
        "data/postgres", env="TALLYKEEP_POSTGRES_ARCHIVE", parse=PATH, help="Folder of tier 1, on a disk of its own."
    )
    key: Secret = setting(
        Secret(""), env="TALLYKEEP_POSTGRES_KEY", parse=Secret,
        help="Encryption key, a line that begins with tallykeep-key-1-; `tallykeep postgres key` makes one. Better the "
        "path of the recovery file in TALLYKEEP_POSTGRES_KEY_FILE or key_file. Without a key nothing is encrypted.",
    )  # fmt: skip
    key_file: Path | None = setting(None, parse=PATH, help="The recovery file that holds the key.")
    interval: float = setting(
        "10", env="TALLYKEEP_POSTGRES_INTERVAL", parse=duration(low=0.2),
        help="Time between two looks at every cluster.",
    )  # fmt: skip
    clusters: tuple[ClusterSettings, ...] = targets(ClusterSettings, help="Clusters to protect.")
    tier2: Tier2Settings = group(Tier2Settings, help="Object storage.")
    queue: QueueSettings = group(QueueSettings, help="The queue between the tiers.")
    backup: BackupSettings = group(BackupSettings, help="Base backups.")
    retention: RetentionSettings = group(RetentionSettings, help="What tier 1 keeps.")
    tier2_retention: RetentionSettings = group(RetentionSettings, help="What tier 2 keeps.")
    verify: VerifySettings = group(VerifySettings, help="Verification.")
    drill: DrillSettings = group(DrillSettings, help="Drills.")

    def __post_init__(self) -> None:
        if self.key and self.key_file:
            raise ValueError("give either key or key_file")
        known = {"", *(cluster.name for cluster in self.clusters)}
        unknown = sorted({question.cluster for question in self.drill.questions} - known)
        if self.clusters and unknown:
            raise ValueError(f"drill.questions: there is no cluster {', '.join(unknown)}")

    def asked_for(self) -> bool:
        """Whether there is anything to protect."""
        return bool(self.clusters)
