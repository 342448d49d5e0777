"""Settings of PostgreSQL protection, as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallykeep.cli.sections import sections
from tallykeep.config.load import load
from tallykeep.errors import ConfigError, Refused, Unreachable
from tallykeep.systems.postgres.opening import check_postgres
from tallykeep.systems.postgres.replication import _unconnected
from tallykeep.systems.postgres.settings import CRON

URL = {"TALLYKEEP_POSTGRES_URL": "postgresql://db/postgres"}


@pytest.mark.parametrize("slot", ["Bad-Slot", "with space", "x" * 64])
def test_a_slot_that_postgresql_would_refuse_is_refused(slot: str) -> None:
    """Its name is told with what may stand there, before anything is connected."""
    with pytest.raises(ConfigError, match=r"TALLYKEEP_POSTGRES_SLOT.*small letters"):
        load(sections(), URL | {"TALLYKEEP_POSTGRES_SLOT": slot})


def test_a_question_is_for_the_cluster_that_it_names(tmp_path: Path) -> None:
    """Of two clusters one is asked; a question that names none is for both; a cluster that is not there is refused."""
    path, said = tmp_path / "tallykeep.yaml", "{clusters: [{name: a}, {name: b}], drill: {questions: [%s]}}"
    path.write_text(f"postgres: {said % '{name: x, sql: SELECT, cluster: a}, {name: y, sql: SELECT}'}")
    drill = load(sections(), {}, path).section("postgres").drill
    assert [question.name for question in drill.questions_to("a")] == ["x", "y"]
    assert [question.name for question in drill.questions_to("b")] == ["y"]
    path.write_text(f"postgres: {said % '{sql: SELECT, cluster: c}'}")
    with pytest.raises(ConfigError, match="no cluster c"):
        load(sections(), {}, path)


def test_a_schedule_may_be_never() -> None:
    """An empty text means that nothing was said; `never` that there is none."""
    assert CRON("never") == ""
    assert CRON("30 2 * * *") == "30 2 * * *"
    with pytest.raises(ValueError, match="hourly"):
        CRON("hourly")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("server does not support SSL, but SSL was required", "sslmode"),
        ('FATAL: no pg_hba.conf entry for host "10.0.0.1", user "x", no encryption', "pg_hba.conf"),
    ],
)
def test_a_refused_connection_says_what_to_look_at(said: str, advice: str) -> None:
    """TLS and rights have advice of their own."""
    error = _unconnected(said)
    assert isinstance(error, Refused)
    assert advice in str(error).removeprefix(said)


def test_a_limit_of_the_server_says_what_to_raise() -> None:
    """It is no refusal: it goes away when another gives way."""
    error = _unconnected("FATAL: number of requested standby connections exceeds max_wal_senders (currently 1)")
    assert isinstance(error, Unreachable) and "one more for a base backup" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hun%ter2@db/x",
        "postgresql://u:se@hunter2@db/x",
        "postgresql://u:hunter2/y@db/x",
        "postgresql://u:1/hunter2@db/x",
        "postgresql://u:hunter2@[::1/x",
        "host=db password=se hunter2",
        "host=db password=se hunter2=x",
        "hunter2",
        "host=db port=hunter2",
        "host=db port=99999",
    ],
)
def test_a_connection_string_that_is_none_is_refused_and_not_told(url: str) -> None:
    """By name, before anything is connected; what libpq quotes of it may be a part of the password."""
    loaded = load(sections(), {"TALLYKEEP_POSTGRES_URL": url}).section("postgres")
    with pytest.raises(ConfigError, match="cluster default: url: The connection string") as raised:
        check_postgres(loaded)
    assert "hunter" not in str(raised.value) and "ter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:a%40b%2F@h1:1,h2/x?target_session_attrs=any", "host=/run/x port=5432", "host=@abstract",
     "postgresql://%2Frun%2Fx/db", "postgres://", "service=x"],
)  # fmt: skip
def test_a_connection_string_may_be_whatever_libpq_takes(url: str) -> None:
    """Several hosts, sockets, services, percent-encoded passwords."""
    check_postgres(load(sections(), {"TALLYKEEP_POSTGRES_URL": url}).section("postgres"))
