"""Settings of LiteLLM's databases: what is taken, and what is said of what cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tallykeep.cli.main import main
from tallykeep.config.load import load
from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError
from tallykeep.systems.litellm.address import address_of
from tallykeep.systems.litellm.opening import connected
from tallykeep.systems.litellm.settings import DatabaseSettings, LitellmSettings
from tallykeep.web.listener import Listener

Run = Callable[..., tuple[int, str]]


async def _not_reached(self: Listener) -> None:
    raise AssertionError("it started")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`tallykeep run litellm` with these variables: status and what it said."""

    def call(**environ: str) -> tuple[int, str]:
        monkeypatch.setenv("TALLYKEEP_STATE_DIR", str(tmp_path))
        monkeypatch.setenv("METRICS_PORT", "0")
        monkeypatch.setattr(Listener, "start", _not_reached)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        status = main(["run", "litellm"])
        return status, capsys.readouterr().err

    return call


def settings(**environ: str) -> LitellmSettings:
    found: LitellmSettings = load({"litellm": LitellmSettings}, environ).section("litellm")
    return found


def values(**environ: str) -> dict[str, str]:
    """The connection string of these variables, taken apart."""
    from psycopg.conninfo import conninfo_to_dict

    [one] = settings(**environ).databases
    return {name: str(value) for name, value in conninfo_to_dict(address_of(one).conninfo).items()}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LITELLM_DB_PORT": "abc"}, "LITELLM_DB_PORT is 'abc': allowed is a whole number from 1 to 65535"),
        ({"LITELLM_DB_PORT": "0"}, "LITELLM_DB_PORT is '0'"),
        ({"METRICS_SPEND_WINDOW": "30x"}, "METRICS_SPEND_WINDOW is '30x': allowed is a window of whole minutes"),
        ({"METRICS_SPEND_WINDOW": "0d"}, "METRICS_SPEND_WINDOW is '0d'"),
        ({"METRICS_REQUEST_WINDOW": "-1h"}, "METRICS_REQUEST_WINDOW is '-1h'"),
        ({"METRICS_ERROR_WINDOW": "90s"}, "METRICS_ERROR_WINDOW is '90s'"),
        ({"METRICS_ERROR_WINDOW": "60"}, "METRICS_ERROR_WINDOW is '60'"),
        ({"METRICS_UPDATE_INTERVAL": "0"}, "METRICS_UPDATE_INTERVAL is '0'"),
        ({"DB_MIN_CONNECTIONS": "20"}, "lower DB_MIN_CONNECTIONS or raise DB_MAX_CONNECTIONS"),
        ({"LITELLM_DB_SSLMODE": "on"}, "LITELLM_DB_SSLMODE is 'on': allowed is disable, allow, prefer"),
        ({"LITELLM_DATABASE_URL": "postgres//x:hush@h/d"}, "the connection URL does not parse"),
        ({"LITELLM_DATABASE_URL": "postgresql://u:hush@h:port/d"}, "the port in the connection URL is not a number"),
        (
            {"LITELLM_DATABASE_URL": "postgresql://u:hush@h/d", "LITELLM_DB_NAME": "other"},
            "described by its URL, and by dbname as well: keep one of the two",
        ),
        (
            {"LITELLM_DB_PASSWORD_FILE": "/nowhere/at/all"},
            "LITELLM_DB_PASSWORD_FILE is '/nowhere/at/all', which cannot",
        ),
    ],
)
def test_each_mistake_has_one_message_and_ends_the_start(run: Run, environ: dict[str, str], said: str) -> None:
    """Exit status 2, one line that names the variable and says what is allowed, and no secret in it."""
    status, error = run(**{"LITELLM_DB_HOST": "127.0.0.1"} | environ if "DATABASE_URL" not in str(environ) else environ)
    assert status == 2
    assert said in error
    assert len([line for line in error.splitlines() if "info: state is kept" not in line]) == 1
    assert "hush" not in error


def test_the_published_variables_describe_one_database() -> None:
    """The environment of the exporter these variables come from is one database, named default."""
    found = values(
        LITELLM_DB_HOST="db", LITELLM_DB_PORT="6432", LITELLM_DB_NAME="llm", LITELLM_DB_USER="reader",
        LITELLM_DB_PASSWORD="it's a 'secret' \\ with spaces",
    )  # fmt: skip
    assert (found["host"], found["port"], found["dbname"], found["user"]) == ("db", "6432", "llm", "reader")
    assert found["password"] == "it's a 'secret' \\ with spaces"
    assert found["application_name"] == "tallykeep"
    assert found["sslmode"] == "prefer"


def test_a_password_from_a_file(tmp_path: Path) -> None:
    """NAME_FILE names a file that holds the secret, for the password and for the URL."""
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    assert values(LITELLM_DB_PASSWORD_FILE=str(secret))["password"] == "hush"
    secret.write_text("postgresql://u:hush@h/d\n")
    assert values(LITELLM_DATABASE_URL_FILE=str(secret))["host"] == "h"


def test_what_prisma_adds_to_a_url_is_left_out() -> None:
    """LiteLLM's own DATABASE_URL can be given as it is; everything that libpq knows stays."""
    url = (
        "postgresql://u:p%40ss@h1,h2:6000/d?schema=llm&connection_limit=5&pool_timeout=1&pgbouncer=true"
        "&sslmode=require&options=-c%20geqo%3Doff&application_name=mine"
    )
    one = DatabaseSettings(url=Secret(url))
    address = address_of(one)
    assert address.schema == "llm"
    found = values(LITELLM_DATABASE_URL=url)
    assert (found["host"], found["password"], found["sslmode"]) == ("h1,h2", "p@ss", "require")
    assert (found["options"], found["application_name"]) == ("-c geqo=off", "mine")
    assert "schema" not in found and "connection_limit" not in found
    assert "p@ss" not in repr(address) and "p@ss" not in address.shown
    assert address_of(DatabaseSettings(url=Secret("host=h dbname=d password=x"))).shown == "h:5432/d"


def test_tls_files_reach_the_connection(tmp_path: Path) -> None:
    """The files of the TLS settings are those of libpq."""
    files = {"LITELLM_DB_SSLROOTCERT": "/ca", "LITELLM_DB_SSLCERT": "/c", "LITELLM_DB_SSLKEY": "/k"}
    found = values(LITELLM_DB_HOST="h", LITELLM_DB_SSLMODE="verify-full", **files)
    names = ("sslmode", "sslrootcert", "sslcert", "sslkey")
    assert [found[name] for name in names] == ["verify-full", "/ca", "/c", "/k"]


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """psycopg is an extra of the installation: without it the start ends with how to get it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "tallykeep.systems.litellm.address", raising=False)
    monkeypatch.delitem(sys.modules, "tallykeep.systems.litellm.database", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'tallykeep\[litellm\]'"):
        connected(DatabaseSettings(), LitellmSettings())


def test_several_databases_in_the_file(tmp_path: Path) -> None:
    """tallykeep.yaml lists any number; the variables describe the one named default beside them."""
    file = tmp_path / "tallykeep.yaml"
    file.write_text(
        "litellm:\n  spend_window: 7d\n  databases:\n    - {name: eu, host: eu.db}\n    - {name: us, host: us.db}\n"
    )
    found: LitellmSettings = load({"litellm": LitellmSettings}, {"LITELLM_DB_HOST": "own"}, file).section("litellm")
    assert [(one.name, one.host) for one in found.databases] == [("default", "own"), ("eu", "eu.db"), ("us", "us.db")]
    assert found.spend_window == 7 * 86400


def test_two_databases_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two of one name would share their label and their ledger."""
    file = tmp_path / "tallykeep.yaml"
    file.write_text("litellm:\n  databases:\n    - {name: eu, host: a}\n    - {name: eu, host: b}\n")
    with pytest.raises(ConfigError, match="two named 'eu'"):
        load({"litellm": LitellmSettings}, {}, file)
