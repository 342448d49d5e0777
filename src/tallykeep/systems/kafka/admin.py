"""librdkafka's admin client, made fit for an event loop.

Its questions are put at once and answered through futures of its own threads; the few calls that block, and its end,
are made on threads. What fails is told in our errors, once: its own chatter on standard error is off, and what it
says meanwhile (a login refused, a name unknown) is kept as the reason for what it then only calls a time-out.
Source: librdkafka, CONFIGURATION.md and INTRODUCTION.md (error codes).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tallykeep.errors import ConfigError, Refused, SourceError, Unreachable
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.kafka.connection import CLIENT_ID
from tallykeep.systems.kafka.described import ClusterSettings
from tallykeep.systems.kafka.replies import LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION, failure

T = TypeVar("T")
K = TypeVar("K")

_PATIENCE = 1.0  # seconds until it is asked what went wrong so far; twice as long each time
_REASONS = 20  # kept
_DENIED = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_TOLD_BY_BROKERS = {  # what librdkafka concludes from an answer, in the broker's own codes
    KafkaError._UNKNOWN_PARTITION: UNKNOWN_TOPIC_OR_PARTITION,
    KafkaError._UNKNOWN_TOPIC: UNKNOWN_TOPIC_OR_PARTITION,
    KafkaError._NOENT: LEADER_NOT_AVAILABLE,
}
_NOTHING_CAME = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN)
_silent = logging.getLogger(f"{__name__}.librdkafka")
_silent.setLevel(logging.CRITICAL + 1)


class Admin:
    """An admin client. It connects when it is asked the first time."""

    def __init__(self, settings: ClusterSettings) -> None:
        """Reads the files of TLS. Raises: ConfigError."""
        self.name = ",".join(settings.bootstrap)
        self.timeout = settings.timeout
        self._reasons: deque[KafkaError] = deque(maxlen=_REASONS)
        self._held = [_client(settings, self._reasons)]

    @property
    def client(self) -> AdminClient:
        """What takes questions. Raises: Unreachable once it is closed."""
        if not self._held:
            raise Unreachable(f"{self.name}: the connection to Kafka is closed.")
        return self._held[0]

    async def metadata(self) -> Any:
        """The cluster as it is now. A broker that is away is waited for; a refused login is told at once."""
        loop = asyncio.get_running_loop()
        end, patience = loop.time() + self.timeout, min(_PATIENCE, self.timeout)
        while True:
            try:
                found = await in_thread(self.client.list_topics, timeout=patience)
            except KafkaException as error:
                problem = self._translated(error, self.name)
                left = end - loop.time()
                if error.args[0].code() not in _NOTHING_CAME or isinstance(problem, Refused) or left <= 0:
                    raise problem from None
                patience = min(patience * 2, max(left, 0.1))
            else:
                self._forget()
                return found

    async def one(self, answer: Future[T], what: str) -> T:
        """What the future gives; `what` was asked. Raises: SourceErrors."""
        try:
            found = await _awaited(answer)
        except KafkaException as error:
            raise self._translated(error, f"{self.name}: {what}") from None
        self._forget()
        return found

    async def all(self, answers: Mapping[K, Future[Any]], what: str) -> dict[K, Any]:
        """What each future gives. Raises: SourceErrors, the first of them."""
        return {key: await self.one(future, what) for key, future in answers.items()}

    async def close(self) -> None:
        """Idempotent. What is under way ends by itself; the client's end may take as long as a socket's."""
        if self._held:
            await in_thread(self._held.clear)

    def _forget(self) -> None:
        """An answer came: what was wrong before it is over."""
        self._said()
        self._reasons.clear()

    def _said(self) -> list[KafkaError]:
        """What librdkafka has said since the last answer."""
        if self._held:
            self._held[0].poll(0)  # calls back with what waits, and does not wait itself
        return list(self._reasons)

    def _translated(self, error: KafkaException, what: str) -> SourceError:
        said: KafkaError = error.args[0]
        if said.code() not in _NOTHING_CAME:
            return translated(said, what)
        reasons = self._said()
        for reason in reasons:
            if _denies(reason):
                return translated(reason, what)
        return translated(reasons[-1] if reasons else said, what)


def translated(error: KafkaError, what: str) -> SourceError:
    """What an error of librdkafka comes to: codes of its own are negative, and below the broker's -1."""
    code, said = error.code(), error.str()
    if code >= KafkaError.UNKNOWN:
        return failure(code, what, "" if said.startswith("Broker: ") else said)
    if code in _TOLD_BY_BROKERS:
        return failure(_TOLD_BY_BROKERS[code], what)
    if _denies(error):
        advice = "Check protocol, mechanism, user, password and certificates."
        return Refused(f"{what}: Kafka and this client do not trust each other: {said}. {advice}")
    return Unreachable(f"{what}: Kafka gave no answer: {said}. Check the brokers' addresses and the network.")


def _denies(error: KafkaError) -> bool:
    """Whether one side does not trust the other: of a broker that refuses our certificate only its alert is told."""
    return error.code() in _DENIED or "SSL alert number" in error.str()


async def _awaited(answer: Future[T]) -> T:
    """What the future gives. It is not cancelled with its caller: librdkafka's thread would complain aloud."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    answer.add_done_callback(wake)
    await done.wait()
    return answer.result()


def _client(settings: ClusterSettings, reasons: deque[KafkaError]) -> AdminClient:
    how = settings.security
    how.context()  # names the file that is missing, which librdkafka does not
    config: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.bootstrap),
        "client.id": CLIENT_ID,
        "security.protocol": how.protocol,
        "socket.timeout.ms": int(settings.timeout * 1000),
        "socket.connection.setup.timeout.ms": max(int(settings.timeout * 1000), 1000),
        "log_level": 0,
        "error_cb": reasons.append,
    }
    if how.protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": how.mechanism,
            "sasl.username": how.username,
            "sasl.password": how.password.reveal(),
        }
    files = {
        "ssl.ca.location": how.ca_file,
        "ssl.certificate.location": how.certificate_file,
        "ssl.key.location": how.key_file or how.certificate_file,
    }
    if how.uses_tls:
        config |= {name: str(path) for name, path in files.items() if path is not None}
    try:
        return AdminClient(config, logger=_silent)
    except KafkaException as error:
        raise ConfigError(
            f"{config['bootstrap.servers']}: Kafka's client cannot be set up: {error.args[0].str()}"
        ) from None
