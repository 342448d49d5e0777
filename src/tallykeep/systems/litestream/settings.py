"""Settings of Litestream: which replicas to watch, how often, how hard.

The published variables describe the target named default. Any number of targets stand in tallykeep.yaml under
`litestream: targets:`, or come from a litestream.yml given as `config`.
Source: contract/environment.tsv.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tallykeep.config.model import DEFAULT_TARGET, Secret, group, setting
from tallykeep.config.model import targets as any_number
from tallykeep.config.parse import FLAG, PATH, duration, one_of, size
from tallykeep.systems.litestream.urls import ENDPOINT, REPLICA, ReplicaUrl


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """One replica of one database."""

    name: str = setting(DEFAULT_TARGET, help="Value of the label `target`.")
    local: Path | None = setting(
        None, env="LOCAL_LTX_DIR", switch=True, parse=PATH,
        help="Local LTX directory of Litestream, such as /data/.omni.db-litestream/ltx.",
    )  # fmt: skip
    database: Path | None = setting(
        None, parse=PATH, help="Database file. Told by the name of the local LTX directory where it is not given."
    )
    replica: ReplicaUrl | None = setting(
        None, parse=REPLICA, secret=True,
        help="Replica as Litestream writes it: s3://bucket/prefix, file:///path or a path. It may hold credentials.",
    )  # fmt: skip
    bucket: str = setting("", env="S3_BUCKET", switch=True, help="Bucket of the replica (S3 or R2).")
    prefix: str = setting("", env="S3_PREFIX", help="Prefix of the replica inside the bucket.")
    endpoint: str = setting(
        "", env="S3_ENDPOINT_URL", parse=ENDPOINT, help="S3-compatible endpoint (needed for Cloudflare R2)."
    )
    region: str = setting("", help="Region of the bucket. Told by the endpoint where it is not given.")
    access_key_id: str = setting(
        "", env="LITESTREAM_ACCESS_KEY_ID",
        help="Access key id. Where it is not given, AWS_ACCESS_KEY_ID and the other sources of AWS credentials.",
    )  # fmt: skip
    secret_access_key: Secret = setting(
        Secret(""), env="LITESTREAM_SECRET_ACCESS_KEY", parse=Secret, help="Secret access key."
    )
    path_style: bool | None = setting(
        None, parse=FLAG, help="Put the bucket into the path of requests. Told by the endpoint where it is not given."
    )
    skip_verify: bool = setting(False, help="Accept any TLS certificate of the endpoint.")

    def __post_init__(self) -> None:
        if self.replica is not None and (self.bucket or self.prefix):
            raise ValueError("give either replica (a URL) or bucket and prefix")
        if not self.bucket and (self.prefix or self.endpoint) and self.replica is None and self.local is None:
            raise ValueError("prefix and endpoint mean nothing without bucket")  # beside local they are left over
        if self.local is None and self.replica is None and not self.bucket:
            raise ValueError("give local, replica or bucket: there is nothing to look at")


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """Reading and verifying the files of a replica, some at a time."""

    bytes: int = setting(
        "64MiB", parse=size(), help="How much of each replica to read and verify per interval; 0 turns the sweep off."
    )
    again: float = setting(
        "7d", parse=duration(low=60), help="How long a verified file is believed before it is read again."
    )


@dataclass(frozen=True, slots=True)
class Assertion:
    """A question to the restored database and its right answer."""

    name: str = setting("", help="What is asserted, for messages.")
    sql: str = setting("", help="A query, such as SELECT count(*) > 0 FROM orders.")
    expected: str = setting("1", help="Its right answer: the first column of its first row, as text.")


@dataclass(frozen=True, slots=True)
class DrillSettings:
    """Restoring each replica into a file, for practice."""

    every: float = setting("24h", parse=duration(), help="Time between two restore drills; 0 turns them off.")
    integrity: str = setting(
        "quick", parse=one_of("quick", "full"), help="Check of the restored image: quick_check or integrity_check."
    )
    timeout: float = setting("1h", parse=duration(low=1), help="Time after which a drill is given up.")
    scratch: Path | None = setting(
        None, parse=PATH, help="Folder for restored images. In the state directory where it is not given."
    )
    assertions: tuple[Assertion, ...] = any_number(Assertion, help="Questions to the restored database.")


@dataclass(frozen=True, slots=True)
class LitestreamSettings:
    """Everything that can be said of Litestream."""

    interval: float = setting(
        "60", env="SCRAPE_INTERVAL_SECONDS", parse=duration(low=0.2), help="Time between two looks at every source."
    )
    timeout: float = setting("30", parse=duration(low=0.2), help="Time after which looking at a source has failed.")
    stale_after: float = setting(
        "60", parse=duration(), help="A replica is stale when the local side has had more for longer than this."
    )
    config: Path | None = setting(
        None, parse=PATH, help="Path of a litestream.yml: every database in it becomes a target."
    )
    targets: tuple[TargetSettings, ...] = any_number(TargetSettings, help="Replicas to watch.")
    sweep: SweepSettings = group(SweepSettings, help="Reading and verifying the files of a replica.")
    drill: DrillSettings = group(DrillSettings, help="Restoring a replica for practice.")

    def asked_for(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self.targets or self.config)
