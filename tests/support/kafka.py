"""A real Apache Kafka for tests: one KRaft node, broker and controller in one JVM, from the jars of tools/kafka-jars.

It has a listener for each way a client may come: PLAINTEXT, SASL_PLAINTEXT, SSL and SASL_SSL, all on 127.0.0.1,
on ports that were free. Data, configuration and log are in one folder. One start costs about six CPU seconds, so
tests share the session's server and tell themselves apart by topic names; each xdist worker has its own.
"""

from __future__ import annotations

import base64
import itertools
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic
from cryptography.hazmat.primitives import serialization
from tests.support.servers import _give_up

from tallykeep.errors import Unreachable
from tallykeep.runtime.processes import ManagedProcess, find_program, free_port

JARS = Path(__file__).parents[2] / ".cache/kafka/lib"
USER, PASSWORD = "alice", "alice-secret"
PROTOCOLS = ("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL")
_PATIENCE = 60.0  # seconds; a busy machine takes many where an idle one takes none
_TRIES = 3  # another process may take one of the ports between the look and the start
_JVM = (
    "-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JARS}/*",
)  # fmt: skip
_QUIET = {"log_level": 0}  # librdkafka tells standard error of every connection that a stopped broker refuses
_PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class KafkaServer:
    """One broker in `folder`. Stopped and started again it has the same data, users and addresses."""

    def __init__(self, folder: Path, **properties: str) -> None:
        """`properties`: more of server.properties, dots written as underscores."""
        self.folder = folder
        self._more = {name.replace("_", "."): value for name, value in properties.items()}
        self._authority = trustme.CA()
        self._ports: dict[str, int] = {}
        self._process: ManagedProcess | None = None

    @property
    def bootstrap(self) -> str:
        """HOST:PORT of the listener without TLS and without users."""
        return self.address("PLAINTEXT")

    @property
    def ca_file(self) -> Path:
        """The authority that its certificate, and those of its clients, come from."""
        return self.folder / "ca.pem"

    @property
    def alive(self) -> bool:
        """Whether the process runs, frozen or not."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running.pid

    def address(self, protocol: str) -> str:
        """HOST:PORT of the listener for one security protocol."""
        return f"127.0.0.1:{self._ports[protocol]}"

    def client_certificate(self, name: str = "client") -> Path:
        """A file with a key and a certificate that the broker trusts."""
        path = self.folder / f"{name}.pem"
        issued = self._authority.issue_cert(f"{name}.test", common_name=name)  # Java refuses one without any name
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def start(self, timeout: float = 90.0) -> None:
        """Return when it takes connections and has joined its own cluster.

        Raises: Unreachable, with its last words, where it does not come up.
        """
        for attempt in range(1, _TRIES + 1):
            self._configure()
            self._process = self._java("kafka.Kafka", str(self.folder / "server.properties"))
            self._process.start()
            try:
                self._process.wait_ready(self._ready, timeout)
            except Unreachable:
                taken = not self._process.alive
                self.kill()
                if attempt == _TRIES or not taken:
                    raise
                self._ports = {}
            else:
                return

    def stop(self) -> None:
        """Let it end in order, or make it."""
        if self._process is not None:
            self._process.stop(timeout=10)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()

    def freeze(self) -> None:
        """Let every request hang: connections are taken and nothing is answered."""
        self._running.freeze()

    def thaw(self) -> None:
        """Go on, also with the requests that hang."""
        self._running.thaw()

    def admin(self) -> AdminClient:
        """A client for topics, configurations and groups."""
        return AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET})

    def producer(self, **settings: object) -> Producer:
        """A producer; dots in the names of settings are written as underscores."""
        named = {name.replace("_", "."): value for name, value in settings.items()}
        return Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 20, **_QUIET, **named})

    def create_topic(self, name: str, partitions: int = 1, **config: str) -> None:
        """Make a topic and wait until its leaders answer; dots in the names of settings are written as underscores."""
        named = {key.replace("_", "."): value for key, value in config.items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=named)
        admin = self.admin()  # its requests end with it
        admin.create_topics([topic])[name].result(_PATIENCE)
        self._running.wait_ready(lambda: _is_led(admin, name, partitions), _PATIENCE)

    def delete_topics(self, *names: str) -> None:
        """Delete topics and return when the broker knows of none of them: the controller answers before it does."""
        admin = self.admin()  # its requests end with it
        for future in admin.delete_topics(list(names)).values():
            future.result(_PATIENCE)
        self._running.wait_ready(lambda: not set(names) & set(_metadata(admin).topics), _PATIENCE)

    def settle(self, *topics: str) -> None:
        """Return when no transaction is open: its marker is written after who ended it has been answered."""
        admin = self.admin()  # its requests end with it
        self._running.wait_ready(lambda: all(_is_stable(admin, topic) for topic in topics), _PATIENCE)

    @property
    def _running(self) -> ManagedProcess:
        assert self._process is not None, "not started"
        return self._process

    def _java(self, main: str, *arguments: str) -> ManagedProcess:
        argv = ["java", *_JVM, main, *arguments]
        return ManagedProcess(argv, env=_environment(self.folder), cwd=self.folder, log=self.folder / "kafka.log")

    def _configure(self) -> None:
        """Write what it reads at start; format its storage the first time."""
        self._ports = self._ports or _free_ports()
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        if not (self.folder / "server.pem").exists():
            (self.folder / "server.pem").write_bytes(_server_pem(self._authority))
        lines = [f"{name}={value}" for name, value in self._properties().items()]
        (self.folder / "server.properties").write_text("\n".join(lines) + "\n")
        if not (self.folder / "data/meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        users = [
            word
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for word in ("--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]")
        ]
        command = ["java", *_JVM, "kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}",
                   "-c", str(self.folder / "server.properties"), *users]  # fmt: skip
        done = subprocess.run(command, env=_environment(self.folder), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unreachable(f"Kafka's storage could not be formatted.\n{done.stdout}{done.stderr}".rstrip())

    def _properties(self) -> dict[str, str]:
        listeners = [f"{name}://127.0.0.1:{port}" for name, port in self._ports.items()]
        sasl = {
            f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config": jaas
            for listener in ("sasl_plaintext", "sasl_ssl")
            for mechanism, jaas in (("PLAIN", _PLAIN), ("SCRAM-SHA-256", _SCRAM), ("SCRAM-SHA-512", _SCRAM))
        }
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self._ports['CONTROLLER']}",
            "listeners": ",".join(listeners),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(f"{p}:{p}" for p in PROTOCOLS) + ",CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.folder / "server.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "ssl.client.auth": "requested",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "log.cleaner.dedupe.buffer.size": "4194304",
            "log.cleaner.backoff.ms": "200",
            "log.retention.ms": "-1",  # records of tests are old: after half a minute they would be deleted
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **sasl,
            **self._more,
        }

    def _ready(self) -> bool:
        """The listener is open, which it is only once the broker has joined."""
        with socket.create_connection(("127.0.0.1", self._ports["SASL_SSL"]), 1):
            pass
        return bool(_metadata(self.admin()).brokers)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _metadata(admin: AdminClient) -> Any:
    """The cluster as the broker knows it. Raises: ConnectionError where it does not say."""
    try:
        return admin.list_topics(timeout=10)
    except KafkaException as error:
        raise ConnectionError(str(error)) from None


def _is_stable(admin: AdminClient, topic: str) -> bool:
    """Whether who reads committed records can read to the end of every partition."""
    asked = {
        TopicPartition(topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for partition in _metadata(admin).topics[topic].partitions
    }
    stable, ends = (
        {place: answer.result(30).offset for place, answer in admin.list_offsets(asked, isolation_level=level).items()}
        for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
    )
    return stable == ends


def _is_led(admin: AdminClient, topic: str, partitions: int) -> bool:
    """Whether every partition has a leader that answers."""
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(partitions)}  # type: ignore[no-untyped-call]
    try:
        for future in admin.list_offsets(asked).values():
            future.result(30)
    except KafkaException:
        return False
    return True


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder)}


def _server_pem(authority: trustme.CA) -> bytes:
    """A key and its certificates. Java reads keys in PKCS #8 alone."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    packed = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return packed + b"".join(blob.bytes() for blob in issued.cert_chain_pems)


def _free_ports() -> dict[str, int]:
    ports: set[int] = set()
    while len(ports) < len(PROTOCOLS) + 1:
        ports.add(free_port())
    return dict(zip((*PROTOCOLS, "CONTROLLER"), ports, strict=True))


@contextmanager
def running(folder: Path, **properties: str) -> Iterator[KafkaServer]:
    """A server for as long as the context lasts; skips the test, with the reason, where it cannot be had."""
    if find_program("java") is None:
        _give_up("java is missing: apt-get install default-jre-headless")
    if not JARS.is_dir():
        _give_up("Kafka's jars are missing: tools/kafka-jars (needs Maven) brings them")
    with KafkaServer(folder, **properties) as server:
        yield server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A running broker for many tests."""
    with running(tmp_path_factory.mktemp("kafka")) as server:
        yield server


_numbers = itertools.count(1)


@pytest.fixture
def topic() -> str:
    """A name that no other test has used."""
    return f"topic-{next(_numbers)}"
