"""The control plane on a real Kafka: what it brings, whom it lets in, and what errors come to."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trustme
from confluent_kafka import Consumer
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from tests.support.kafka import PASSWORD, USER, KafkaServer, running
from tests.support.kafka_live import delete_topic

from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError, Refused, Unreachable
from tallykeep.systems.kafka.cluster import Cluster, ClusterSettings, Committed, Place
from tallykeep.systems.kafka.connection import Security
from tallykeep.systems.kafka.preflight import _rights
from tallykeep.systems.kafka.replies import KafkaForbidden, KafkaRefused, code_name
from tallykeep.systems.kafka.restore_plan import RestorePlan, RestoreRequest

pytestmark = pytest.mark.server
WAYS = [
    ("PLAINTEXT", "PLAIN"), ("SSL", "PLAIN"), ("SASL_PLAINTEXT", "PLAIN"), ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    ("SASL_PLAINTEXT", "SCRAM-SHA-512"), ("SASL_SSL", "PLAIN"), ("SASL_SSL", "SCRAM-SHA-512"),
]  # fmt: skip
Open = Callable[..., Awaitable[Cluster]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker of this module's own where users need rights, which nobody has, and TLS needs a certificate."""
    rules = {
        "authorizer_class_name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super_users": "User:ANONYMOUS",
        "listener_name_ssl_ssl_client_auth": "required",
    }
    with running(tmp_path_factory.mktemp("guarded"), **rules) as server:
        yield server


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    """Opens clusters that are closed after the test."""
    opened: list[Cluster] = []

    async def to(kafka: KafkaServer, security: Security | None = None, timeout: float = 60) -> Cluster:
        how = security or Security()
        opened.append(await Cluster.open(ClusterSettings((kafka.address(how.protocol),), how, timeout)))
        return opened[-1]

    yield to
    for cluster in opened:
        await cluster.close()


@pytest.fixture
async def cluster(kafka: KafkaServer, connect: Open) -> Cluster:
    return await connect(kafka)


def user(kafka: KafkaServer, protocol: str, mechanism: str = "PLAIN", password: str = PASSWORD) -> Security:
    return Security(protocol, mechanism, USER, Secret(password), kafka.ca_file)


@pytest.mark.parametrize(("protocol", "mechanism"), WAYS)
async def test_every_way_in(
    kafka: KafkaServer, connect: Open, protocol: str, mechanism: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each protocol and mechanism of the settings opens the control plane, and nothing is said on standard error."""
    cluster = await connect(kafka, user(kafka, protocol, mechanism))
    assert cluster.cluster_id
    assert cluster.brokers == {1: ("127.0.0.1", int(kafka.address(protocol).rpartition(":")[2]))}
    assert capfd.readouterr().err == ""


async def test_a_certificate_is_shown(guarded: KafkaServer, connect: Open, capfd: pytest.CaptureFixture[str]) -> None:
    """Where the broker wants a client's certificate, ours is taken, and without it the login is refused."""
    file = guarded.client_certificate()
    cluster = await connect(guarded, Security("SSL", ca_file=guarded.ca_file, certificate_file=file))
    assert cluster.cluster_id
    with pytest.raises(Refused, match="certificate"):
        await connect(guarded, Security("SSL", ca_file=guarded.ca_file))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password(
    kafka: KafkaServer, connect: Open, mechanism: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is refused, long before the time-out; the message has the mechanism's word and not the password."""
    security = user(kafka, "SASL_PLAINTEXT", mechanism, "nonsense")
    async with asyncio.timeout(30):
        with pytest.raises(Refused, match=r"(?i)authentication fail") as caught:
            await connect(kafka, security, timeout=60)
    assert caught.value.retry is None
    assert "nonsense" not in str(caught.value)
    assert capfd.readouterr().err == ""


async def test_an_authority_that_is_not_trusted(kafka: KafkaServer, connect: Open, tmp_path: Path) -> None:
    """Another authority's broker is refused; a file that is missing or none is a matter of the settings."""
    other = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(Refused, match="certificate"):
        await connect(kafka, Security("SSL", ca_file=other))
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        await connect(kafka, Security("SSL", ca_file=other.with_name("missing.pem")))


async def test_nobody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    """Unreachable, with the address and the reason; a later try makes sense."""
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9.*refused") as caught:
        await Cluster.open(ClusterSettings(("127.0.0.1:9",), timeout=5))
    assert caught.value.retry
    assert capfd.readouterr().err == ""


async def test_a_broker_that_hangs_holds_up_nobody(
    guarded: KafkaServer, connect: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    """Questions are given up and the client is closed while the loop goes on; late answers disturb nothing."""
    cluster = await connect(guarded, timeout=150)  # what a loop that is held up waits for
    guarded.create_topic("hangs")
    guarded.freeze()
    try:
        for question in (cluster.offsets([Place("hangs", 0)], "latest"), cluster.topics(), cluster.groups()):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(question, 0.5)
        closing = asyncio.create_task(cluster.close())
        async with asyncio.timeout(60):
            for _ in range(10):
                await asyncio.sleep(0.01)
    finally:
        guarded.thaw()
    await closing
    gc.collect()
    with pytest.raises(Unreachable, match="closed"):
        await cluster.topics()
    assert capfd.readouterr().err == ""


async def test_a_broker_that_comes_back(guarded: KafkaServer, connect: Open) -> None:
    """While it is away questions fail as Unreachable; the same client works once it is back."""
    cluster = await connect(guarded)
    cluster._admin.timeout = 3  # for which a broker that is away is waited for
    guarded.kill()
    with pytest.raises(Unreachable):
        await cluster.topics()
    guarded.start()
    async with asyncio.timeout(60):
        while True:
            with suppress(Unreachable):
                await cluster.topics()
                return


async def test_a_user_without_rights(guarded: KafkaServer, connect: Open) -> None:
    """What is not allowed is told as such, by topic and group, and is not tried again."""
    cluster = await connect(guarded, user(guarded, "SASL_PLAINTEXT"))
    guarded.create_topic("secret")
    assert "secret" not in await cluster.topics()
    for name, question, *asked in (
        ("TOPIC_AUTHORIZATION_FAILED", cluster.offsets, [Place("secret", 0)], "latest"),
        ("GROUP_AUTHORIZATION_FAILED", cluster.group_offsets, "theirs"),
        ("AUTHORIZATION_FAILED", cluster.create_topic, "mine", 1, 1, {}),
        ("AUTHORIZATION_FAILED", partial(cluster.alter_configs, set={"retention.ms": "1"}), "secret"),
    ):
        with pytest.raises(KafkaForbidden, match=name) as caught:
            await question(*asked)
        assert caught.value.retry is None


async def test_topics_and_their_settings(cluster: Cluster, topic: str) -> None:
    """A topic has an id and led partitions; what was set for it is told apart from what holds; unset is unset."""
    await cluster.create_topic(topic, 3, 1, {"retention.ms": "1000000", "cleanup.policy": "compact"})
    found = (await cluster.topics())[topic]
    assert (found.name, found.internal, [info[:] for info in found.partitions]) == (
        topic, False, [(0, 1, 1), (1, 1, 1), (2, 1, 1)],
    )  # fmt: skip
    assert len(found.topic_id) == 32
    assert int(found.topic_id, 16)
    await cluster.alter_configs(topic, set={"segment.bytes": "2000000"}, unset=["cleanup.policy"])
    assert await cluster.configs([topic]) == {topic: {"retention.ms": "1000000", "segment.bytes": "2000000"}}
    effective = (await cluster.effective_configs([topic]))[topic]
    assert (effective["cleanup.policy"], effective["max.message.bytes"]) == ("delete", "1048588")


async def test_settings_are_known_once_they_are_changed(cluster: Cluster, topic: str) -> None:
    """What was set, or unset, is what is told of the topic then, each time: a restore counts on it."""
    await cluster.create_topic(topic, 1, 1, {})
    for number in range(100):
        wanted = {"retention.ms": str(1_000_000 + number)} if number % 4 else {}
        await cluster.alter_configs(topic, set=wanted, unset=[] if wanted else ["retention.ms"])
        assert await cluster.configs([topic]) == {topic: wanted}


async def test_a_topic_made_again_has_another_id(kafka: KafkaServer, cluster: Cluster, topic: str) -> None:
    """So that its incarnations can be told apart."""
    await cluster.create_topic(topic, 1, 1, {})
    first = (await cluster.topics())[topic].topic_id
    delete_topic(kafka, topic)
    await cluster.create_topic(topic, 1, 1, {})
    assert (await cluster.topics())[topic].topic_id != first


async def test_the_brokers_own_words(cluster: Cluster, topic: str) -> None:
    """What a broker says of a topic it does not make is in the message; validation alone makes none."""
    with pytest.raises(KafkaRefused, match=r"INVALID_REPLICATION_FACTOR \(.*replication"):
        await cluster.create_topic(topic, 1, 3, {})
    with pytest.raises(KafkaRefused, match=r"INVALID_CONFIG \(.*retention\.ms"):
        await cluster.create_topic(topic, 1, 1, {"retention.ms": "soon"})
    with pytest.raises(KafkaRefused, match=r"INVALID_CONFIG \(.*no\.such"):
        await cluster.create_topic(topic, 1, 1, {"no.such": "1"})
    await cluster.create_topic(topic, 1, 1, {}, validate_only=True)
    assert topic not in await cluster.topics()
    await cluster.create_topic(topic, 1, 1, {})
    with pytest.raises(KafkaRefused, match="TOPIC_ALREADY_EXISTS") as caught:
        await cluster.create_topic(topic, 1, 1, {})
    assert code_name(caught.value.kafka_code) == "TOPIC_ALREADY_EXISTS"


async def test_offsets(kafka: KafkaServer, cluster: Cluster, topic: str) -> None:
    """First, last, last stable, and by time; where no record is as young, the end."""
    kafka.create_topic(topic, 2)
    place = Place(topic, 0)
    plain = kafka.producer()
    for number in range(10):
        plain.produce(topic, b"v", partition=0, timestamp=1_000_000 + number)
    plain.flush(60)
    open_one = kafka.producer(transactional_id=topic)
    open_one.init_transactions(60)
    open_one.begin_transaction()
    open_one.produce(topic, b"pending", partition=0, timestamp=1_000_010)
    open_one.flush(60)
    both = [place, Place(topic, 1)]
    assert await cluster.offsets(both, "earliest") == dict.fromkeys(both, 0)
    assert (await cluster.offsets(both, "latest"))[place] == 11
    assert (await cluster.offsets(both, "latest_committed"))[place] == 10
    assert (await cluster.offsets(both, 1_000_004)) == {place: 4, both[1]: 0}
    assert (await cluster.offsets(both, 9_000_000)) == {place: 11, both[1]: 0}
    open_one.abort_transaction(60)
    kafka.settle(topic)
    assert (await cluster.offsets(both, "latest_committed"))[place] == 12


async def test_what_is_not_there(cluster: Cluster, topic: str) -> None:
    """A missing topic or partition is an error with Kafka's name, worth a retry; never a missing answer."""
    with pytest.raises(KafkaRefused, match="UNKNOWN_TOPIC_OR_PARTITION") as caught:
        await cluster.offsets([Place(topic, 0)], "latest")
    assert caught.value.retry
    await cluster.create_topic(topic, 1, 1, {})
    with pytest.raises(KafkaRefused, match="UNKNOWN_TOPIC_OR_PARTITION"):
        await cluster.offsets([Place(topic, 0), Place(topic, 7)], "latest")
    assert await cluster.offsets([], "latest") == {}
    assert await cluster.configs([]) == {}


async def test_groups(kafka: KafkaServer, cluster: Cluster, topic: str) -> None:
    """What is committed comes back with its metadata and epoch; a group that is not there is Dead."""
    kafka.create_topic(topic, 2)
    name = f"group-{topic}"
    assert await cluster.group(name) == (name, "Dead", "", 0)
    wanted = {Place(topic, 0): Committed(7, "note", 3), Place(topic, 1): Committed(0)}
    assert await cluster.commit_offsets(name, wanted) == dict.fromkeys(wanted, "")
    assert await cluster.commit_offsets(name, {}) == {}
    assert await cluster.group_offsets(name) == wanted
    assert (await cluster.group(name)) in await cluster.groups()
    assert (await cluster.group(name)).state == "Empty"


async def test_an_active_group_keeps_its_offsets(kafka: KafkaServer, cluster: Cluster, topic: str) -> None:
    """The broker refuses to set what a running consumer reads next, and that is told for each partition."""
    kafka.create_topic(topic)
    name = f"group-{topic}"
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": name, "log_level": 0})
    consumer.subscribe([topic])
    try:
        async with asyncio.timeout(60):
            while not consumer.assignment():
                await asyncio.to_thread(consumer.poll, 0.1)
        group = await cluster.group(name)
        assert (group.state, group.members) == ("Stable", 1)
        assert "member" in (await cluster.commit_offsets(name, {Place(topic, 0): Committed(0)}))[Place(topic, 0)]
    finally:
        consumer.close()


async def test_more_partitions_than_one_request_asks_for(kafka: KafkaServer, cluster: Cluster, topic: str) -> None:
    """1,100 partitions are asked about in two requests, and all have an answer."""
    await cluster.create_topic(topic, 1100, 1, {})
    places = [Place(topic, number) for number in range(1100)]
    assert await cluster.offsets(places, "latest_committed") == dict.fromkeys(places, 0)
    assert len((await cluster.topics())[topic].partitions) == 1100
    delete_topic(kafka, topic)


def grant(kafka: KafkaServer, topic: str, *operations: AclOperation) -> None:
    """Let the user do this with the topic."""
    rules = [
        AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            f"User:{USER}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
    admin = kafka.admin()  # its requests end with it
    for answer in admin.create_acls(rules).values():
        answer.result(60)
    all_of_it = (AclOperation.ANY, AclPermissionType.ANY)
    everything = AclBindingFilter(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None, *all_of_it)  # type: ignore[arg-type]
    while not set(rules) <= set(admin.describe_acls(everything).result(60)):  # the controller answers before the broker
        time.sleep(0.02)


async def test_rights(guarded: KafkaServer, connect: Open, topic: str) -> None:
    """What a user may do with a topic is told; preflight refuses a restore that would be refused half way."""
    guarded.create_topic(topic)
    grant(guarded, topic, AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)
    cluster = await connect(guarded, user(guarded, "SASL_PLAINTEXT"))
    assert await cluster.rights([topic]) == {topic: {"READ", "DESCRIBE", "DESCRIBE_CONFIGS"}}
    plan = RestorePlan("id", RestoreRequest(Path("state")), None, None, [])  # type: ignore[arg-type]
    [finding] = _rights(plan, await cluster.rights([topic]))
    assert (finding.code, finding.fatal) == ("NOT_AUTHORIZED", True)
    assert "ALTER_CONFIGS, WRITE" in finding.message
    await asyncio.to_thread(grant, guarded, topic, AclOperation.WRITE, AclOperation.ALTER_CONFIGS)
    assert list(_rights(plan, await cluster.rights([topic]))) == []
