"""The embedded world: an application, S3, Litestream, an LLM gateway's database, tallykeep; all real, on this machine.

Two databases, as Litestream gives each of them one replica: shop.db goes to the S3 server, ledger.db to a folder.
Intervals are seconds instead of minutes and hours, so that compactions, snapshots and drills happen while one looks
on. Everything stands in one temporary folder and is gone with it.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tallykeep.demo.gateway import Gateway
from tallykeep.demo.kafka import KafkaWorld
from tallykeep.demo.litestream import LitestreamDaemon
from tallykeep.demo.page import get
from tallykeep.demo.payments import Payments
from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.demo.writer import open_database
from tallykeep.errors import ConfigError, Unreachable
from tallykeep.runtime.processes import ManagedProcess, free_port

BUCKET = "demo"
RATE = 5  # commits a second, in each database
_PREFERRED_PORT = 9090  # where people expect it
_PREFERRED_API_PORT = 8000
_TRIES = 3  # another process may take a port between the look and the start
_PATIENCE = 60.0  # seconds for tallykeep's start
_FAREWELL = 30.0  # and for its end: more than it gives itself
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")  # a user's own settings must not leak in

_LITESTREAM_YML = """\
levels:
  - interval: 5s
  - interval: 15s
  - interval: 30s
snapshot:
  interval: 20s
  retention: 10m
l0-retention: 30s
l0-retention-check-interval: 5s
dbs:
  - path: {shop}
    replica:
      type: s3
      bucket: {bucket}
      path: shop
      endpoint: {endpoint}
      region: us-east-1
      force-path-style: true
      access-key-id: {access_key}
      secret-access-key: {secret_key}
  - path: {ledger}
    replica:
      type: file
      path: {replica}
"""
_TALLYKEEP_YAML = """\
state_dir: {state}
metrics_host: 127.0.0.1
metrics_port: {port}
litestream:
  config: {config}
  interval: 1s
  timeout: 2s
  stale_after: 5s
  drill:
    every: 5s
    integrity: full
"""
_LITELLM_YAML = """\
litellm:
  interval: 1s
  timeout: 5s
  databases:
    - name: gateway
      url: {url}
pulse:
  interval: 1s
  host: 127.0.0.1
  port: {api}
  targets:
    - name: gateway
      url: {metrics}
"""


class World:
    """Everything that runs. A context manager: entered, it is up; left, nothing of it remains."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path()
        self.port = self.api_port = 0  # of /metrics, and of the JSON API
        self.gateway: Gateway | None = None
        self.without_gateway = ""  # why there is none
        self.kafka: KafkaWorld | None = None
        self.without_kafka = ""  # why there is none
        self.payments: Payments | None = None
        self.without_payments = ""  # why there is none

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tallykeep-demo-")))
            self.folder.chmod(0o711)  # as root, PostgreSQL runs as another user
            self.gateway = self._gateway(stack)
            self.s3 = stack.enter_context(SeaweedFS(self._below("s3")))
            self.s3.create_bucket(BUCKET)
            self.payments = self._payments(stack)
            self.kafka = self._kafka(stack)
            self.writer = stack.enter_context(self._writer())
            self.litestream = self._litestream()
            self.litestream.start()
            stack.callback(self.litestream.kill)  # nothing it could still sync will be looked at
            if self.gateway is not None:
                self.gateway.wait_ready()
            self.tallykeep = self._started_tallykeep()
            stack.callback(self.tallykeep.stop, _FAREWELL)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def shop(self) -> Path:
        """The database that is replicated to S3."""
        return self.folder / "shop.db"

    @property
    def ledger(self) -> Path:
        """The database that is replicated to a folder."""
        return self.folder / "ledger.db"

    @property
    def replica(self) -> Path:
        """The folder that ledger.db is replicated to."""
        return self.folder / "replica" / "ledger"

    def dead(self) -> dict[str, str]:
        """The processes that have ended though nobody told them to, with their last words."""
        processes = {"the writer": self.writer, "Litestream": self.litestream, "tallykeep": self.tallykeep}
        dead = {name: process.log_tail(5) for name, process in processes.items() if not process.alive}
        if self.gateway is not None and not self.gateway.alive:
            dead["the LLM gateway"] = self.gateway.trouble
        if self.kafka is not None and not self.kafka.alive:
            dead["the Kafka broker"] = self.kafka.log_tail(5)
        if self.payments is not None and not self.payments.alive:
            dead["the protected PostgreSQL"] = self.payments.trouble
        return dead if self.s3.alive else dead | {"SeaweedFS": ""}

    def _gateway(self, stack: ExitStack) -> Gateway | None:
        """The LLM gateway's database, where it can be had: root may not have it below every folder."""
        try:
            return stack.enter_context(Gateway(self._below("postgres")))
        except ConfigError as error:
            self.without_gateway = str(error)
            return None

    def _payments(self, stack: ExitStack) -> Payments | None:
        """The protected PostgreSQL, where the gateway's can be had."""
        if self.gateway is None:
            self.without_payments = self.without_gateway
            return None
        return stack.enter_context(Payments(self._below("payments"), self.s3, BUCKET))

    def _kafka(self, stack: ExitStack) -> KafkaWorld | None:
        """A Kafka broker, where the wheel has one for this machine."""
        storage = {
            "backend": "s3", "bucket": BUCKET, "prefix": "kafka", "endpoint": self.s3.endpoint, "region": "us-east-1",
            "access_key": self.s3.access_key, "secret_key": self.s3.secret_key,
        }  # fmt: skip
        try:
            return stack.enter_context(KafkaWorld(self._below("kafka"), storage))
        except ConfigError as error:
            self.without_kafka = str(error)
            return None

    def _below(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _writer(self) -> ManagedProcess:
        for path in (self.shop, self.ledger):
            open_database(path).close()
        command = [sys.executable, "-m", "tallykeep.demo.writer", str(self.shop), str(self.ledger), "--rate", str(RATE)]
        return ManagedProcess(command, log=self.folder / "writer.log")

    def _litestream(self) -> LitestreamDaemon:
        config = _LITESTREAM_YML.format(
            shop=self.shop,
            ledger=self.ledger,
            replica=self.replica,
            bucket=BUCKET,
            endpoint=self.s3.endpoint,
            access_key=self.s3.access_key,
            secret_key=self.s3.secret_key,
        )
        return LitestreamDaemon(self._below("litestream"), config)

    def _started_tallykeep(self) -> ManagedProcess:
        """tallykeep on the ports people expect, or on others where somebody has one of them or takes it meanwhile."""
        for attempt in itertools.count(1):
            self.port, self.api_port = _port(_PREFERRED_PORT), _port(_PREFERRED_API_PORT)
            tallykeep = self._tallykeep()
            tallykeep.start()
            try:
                tallykeep.wait_ready(self._listening, _PATIENCE)
                break
            except Unreachable:
                taken = not tallykeep.alive and not (_is_free(self.port) and _is_free(self.api_port))
                tallykeep.kill()
                if attempt == _TRIES or not taken:
                    raise
        return tallykeep

    def _listening(self) -> bool:
        """By its own word: on these ports another process might answer."""
        ports, said = [self.port] if self.gateway is None else [self.port, self.api_port], self._log.read_text()
        return all(f"serving http://127.0.0.1:{port}/" in said for port in ports) and bool(get(self.port, "/healthz"))

    @property
    def _log(self) -> Path:
        return self.folder / "tallykeep.log"

    @property
    def config(self) -> Path:
        """The settings of the tallykeep that watches."""
        return self.folder / "tallykeep.yaml"

    @property
    def environment(self) -> dict[str, str]:
        """Of every tallykeep in this world."""
        return {name: os.environ[name] for name in _INHERITED if name in os.environ}

    def _gateway_yaml(self, gateway: Gateway) -> str:
        return _LITELLM_YAML.format(url=gateway.url, metrics=gateway.metrics, api=self.api_port)

    def _tallykeep(self) -> ManagedProcess:
        self.config.write_text(
            _TALLYKEEP_YAML.format(state=self.folder / "state", port=self.port, config=self.litestream.config)
            + (self._gateway_yaml(self.gateway) if self.gateway else "")
            + (self.payments.settings() if self.payments else "")
        )
        command = ["tallykeep", "run", "--config", str(self.config)]
        return ManagedProcess(command, env=self.environment, cwd=self.folder, log=self._log)


def _port(preferred: int) -> int:
    """That one, or another where somebody has it."""
    return preferred if _is_free(preferred) else free_port()


def _is_free(port: int) -> bool:
    """Whether a server may listen there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
