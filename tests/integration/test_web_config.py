"""web.config.yml against the real listener: TLS, client certificates, users, and changes while it runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bcrypt
import httpx2
import pytest
import trustme
from tests.support.clock import FakeClock, settle
from tests.support.listening import World, listening, looked

from tallykeep.clock import Clock, SystemClock
from tallykeep.errors import ConfigError
from tallykeep.threads import in_thread
from tallykeep.web.families import CONFIG_ERRORS, CONFIG_LOADED
from tallykeep.web.guard import Checks
from tallykeep.web.listener import Listener
from tallykeep.web.live import LiveWebConfig

TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
MUTUAL = (
    "tls_server_config: {cert_file: server.crt, key_file: server.key, client_auth_type: RequireAndVerifyClientCert,"
    " client_ca_file: clients.crt}\n"
)


def hashed(password: str, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).replace(b"$2b$", b"$" + prefix + b"$").decode()


def certify(folder: Path, authority: trustme.CA) -> None:
    """A new server certificate and key from `authority`."""
    issued = authority.issue_cert("127.0.0.1")
    (folder / "server.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "server.key")


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


class Site:
    """A folder with web.config.yml, and the world behind it. Unless it has a clock that goes, nobody looks at the
    files by himself: in the middle of a change, say.
    """

    def __init__(self, folder: Path, text: str, clock: Clock | None = None) -> None:
        self.folder = folder
        self.path = folder / "web.config.yml"
        self.path.write_text(text)
        self.world = World(clock or FakeClock())
        self.world.publish(*looked())

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Listener]:
        self.web = LiveWebConfig(self.path, self.world.book, self.world.clock)
        async with listening(self.world, self.web) as listener:
            yield listener

    def booked(self) -> dict[str, object]:
        return {sample.family.name: sample.value for sample in self.world.book.read()}


async def ask(
    listener: Listener, verify: ssl.SSLContext | bool = True, auth: tuple[str, str] | None = None, path: str = "metrics"
) -> httpx2.Response:
    async with httpx2.AsyncClient(verify=verify, trust_env=False, timeout=60) as client:
        return await client.get(listener.url + path, auth=auth)


async def test_tls(tmp_path: Path) -> None:
    """Served over TLS with the configured certificate, in 1.2 and 1.3 and nothing older; plain HTTP gets nothing."""
    authority = trustme.CA()
    certify(tmp_path, authority)
    async with Site(tmp_path, TLS).serving() as listener:
        assert listener.url.startswith("https://")
        assert "replica_verdict" in (await ask(listener, trusting(authority))).text
        with pytest.raises(httpx2.ConnectError):
            await ask(listener, trusting(trustme.CA()))
        with pytest.raises(httpx2.TransportError):
            async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
                await client.get(listener.url.replace("https", "http"))


async def test_client_certificates(tmp_path: Path) -> None:
    """With RequireAndVerifyClientCert only certificates of the authority get in."""
    authority, clients = trustme.CA(), trustme.CA()
    certify(tmp_path, authority)
    clients.cert_pem.write_to_path(tmp_path / "clients.crt")
    async with Site(tmp_path, MUTUAL).serving() as listener:
        mine = clients.issue_cert("prometheus.invalid")
        assert (await ask(listener, trusting(authority, mine))).status_code == 200
        for stranger in (None, trustme.CA().issue_cert("prometheus.invalid")):
            with pytest.raises(httpx2.TransportError):
                await ask(listener, trusting(authority, stranger))


async def test_a_client_authority_that_is_taken_out_loses_its_access(tmp_path: Path) -> None:
    """A reload forgets the old authority as well as it learns the new one."""
    authority, old, new = trustme.CA(), trustme.CA(), trustme.CA()
    certify(tmp_path, authority)
    old.cert_pem.write_to_path(tmp_path / "clients.crt")
    site = Site(tmp_path, MUTUAL)
    async with site.serving() as listener:
        theirs = trusting(authority, old.issue_cert("prometheus.invalid"))
        assert (await ask(listener, theirs)).status_code == 200
        new.cert_pem.write_to_path(tmp_path / "clients.crt")
        await site.web.look()
        assert (await ask(listener, trusting(authority, new.issue_cert("prometheus.invalid")))).status_code == 200
        with pytest.raises(httpx2.TransportError):
            await ask(listener, theirs)


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
async def test_users(tmp_path: Path, prefix: bytes) -> None:
    """The right user with the right password gets in, everybody else gets 401; every path is protected."""
    async with Site(tmp_path, f"basic_auth_users: {{joe: {hashed('hunter:2é', prefix)}}}").serving() as listener:
        assert (await ask(listener, auth=("joe", "hunter:2é"))).status_code == 200
        for auth in (None, ("joe", "wrong"), ("jim", "hunter:2é"), ("", ""), ("joe", "x" * 100), ("joe", "")):
            reply = await ask(listener, auth=auth)
            assert (reply.status_code, reply.text) == (401, "Unauthorized\n")
            assert reply.headers["www-authenticate"].startswith("Basic ")
        for path in ("healthz", "readyz", "status", "", "nowhere"):
            assert (await ask(listener, path=path)).status_code == 401


@pytest.mark.parametrize("value", ["Basic", "Basic !!!", "Basic am9l", "Bearer am9lOmE=", "basic ?", "Basic /w=="])
async def test_broken_credentials_are_wrong_credentials(tmp_path: Path, value: str) -> None:
    """No header a stranger can send ends in anything but 401."""
    async with (
        Site(tmp_path, f"basic_auth_users: {{joe: {hashed('a')}}}").serving() as listener,
        httpx2.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        assert (await client.get(listener.url, headers={"authorization": value})).status_code == 401


async def test_headers(tmp_path: Path) -> None:
    """Configured headers stand on every reply, on refusals too."""
    text = f"http_server_config: {{headers: {{X-Frame-Options: DENY}}}}\nbasic_auth_users: {{joe: {hashed('a')}}}"
    async with Site(tmp_path, text).serving() as listener:
        for auth in (None, ("joe", "a")):
            assert (await ask(listener, auth=auth)).headers["x-frame-options"] == "DENY"


async def test_a_new_certificate_is_taken_over(tmp_path: Path) -> None:
    """Watched in the background: new connections get the new certificate without a restart."""
    old, new = trustme.CA(), trustme.CA()
    certify(tmp_path, old)
    async with Site(tmp_path, TLS, SystemClock()).serving() as listener:
        assert (await ask(listener, trusting(old))).status_code == 200
        certify(tmp_path, new)
        deadline = time.monotonic() + 60
        while True:
            try:
                assert (await ask(listener, trusting(new))).status_code == 200
                break
            except httpx2.ConnectError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)


async def test_changed_users_are_taken_over(tmp_path: Path) -> None:
    """A password that was right, and remembered as such, is wrong after the file has changed."""
    site = Site(tmp_path, f"basic_auth_users: {{joe: {hashed('old')}}}")
    async with site.serving() as listener:
        for _ in range(2):
            assert (await ask(listener, auth=("joe", "old"))).status_code == 200
        site.path.write_text(f"basic_auth_users: {{joe: {hashed('new')}, jim: {hashed('two')}}}")
        await site.web.look()
        assert (await ask(listener, auth=("joe", "old"))).status_code == 401
        assert (await ask(listener, auth=("joe", "new"))).status_code == 200
        assert (await ask(listener, auth=("jim", "two"))).status_code == 200


@pytest.mark.parametrize("broken", ["config", "certificate", "no file", "TLS off"])
async def test_a_broken_change_keeps_the_old_configuration(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once and counted, an alert can see it, and the listener goes on as before; a repair is found."""
    authority = trustme.CA()
    certify(tmp_path, authority)
    site = Site(tmp_path, TLS)
    async with site.serving() as listener:
        if broken == "config":
            site.path.write_text("nonsense: 1")
        elif broken == "no file":
            site.path.unlink()
        elif broken == "TLS off":
            site.path.write_text("")
        else:
            (tmp_path / "server.crt").write_text("nonsense")
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                await site.web.look()
        assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
        assert (site.booked()[CONFIG_LOADED.name], site.booked()[CONFIG_ERRORS.name]) == (0.0, 1.0)
        assert (await ask(listener, trusting(authority))).status_code == 200
        site.path.write_text(TLS)
        certify(tmp_path, authority)
        await site.web.look()
        assert (site.booked()[CONFIG_LOADED.name], site.booked()[CONFIG_ERRORS.name]) == (1.0, 1.0)
        assert (await ask(listener, trusting(authority))).status_code == 200


async def test_a_certificate_that_comes_after_the_configuration_is_found(tmp_path: Path) -> None:
    """The file names a certificate that is not there yet: its arrival is noticed though the file stays as it is."""
    old, new = trustme.CA(), trustme.CA()
    certify(tmp_path, old)
    site = Site(tmp_path, TLS)
    async with site.serving() as listener:
        site.path.write_text("tls_server_config: {cert_file: new/server.crt, key_file: new/server.key}\n")
        await site.web.look()
        assert (await ask(listener, trusting(old))).status_code == 200
        (tmp_path / "new").mkdir()
        certify(tmp_path / "new", new)
        await site.web.look()
        assert (await ask(listener, trusting(new))).status_code == 200


@pytest.mark.parametrize("fault", ["missing", "mismatch", "nonsense", "authority"])
def test_unusable_files_end_the_start(tmp_path: Path, fault: str) -> None:
    """A ConfigError that names the file, not a traceback at the first connection."""
    authority = trustme.CA()
    certify(tmp_path, authority)
    (tmp_path / "clients.crt").write_text("nonsense" if fault == "authority" else "")
    if fault == "missing":
        (tmp_path / "server.key").unlink()
    elif fault == "mismatch":
        authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(tmp_path / "server.key")
    elif fault == "nonsense":
        (tmp_path / "server.crt").write_text("nonsense")
    with pytest.raises(ConfigError, match="clients" if fault == "authority" else "server"):
        Site(tmp_path, MUTUAL if fault == "authority" else TLS).world.clock.time()
        LiveWebConfig(tmp_path / "web.config.yml", World().book, World().clock)


async def test_right_passwords_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scraper's bcrypt check is made once; wrong ones are never remembered; the memory is bounded."""
    made = []
    check = bcrypt.checkpw

    def counted(password: bytes, hash: bytes) -> bool:
        made.append(password)
        return check(password, hash)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    checks = Checks()
    known = hashed("right").encode()
    for _ in range(3):
        assert await checks.right(b"right", known)
    assert len(made) == 1
    for _ in range(2):
        assert not await checks.right(b"wrong", known)
        assert not await checks.right(b"right", None)
    assert len(made) == 5, "an unknown user costs a check as well"
    for number in range(200):
        assert await checks.right(b"right", hashed("right").encode()), number
    assert len(checks._right) <= 128


async def test_the_loop_turns_while_passwords_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers with wrong passwords do not hold up a scrape: bcrypt runs off the loop, two at a time."""
    begun, may_end = threading.Semaphore(0), threading.Event()
    running: list[int] = []
    check = bcrypt.checkpw

    def slow(password: bytes, hashed: bytes) -> bool:
        running.append(threading.get_ident())
        begun.release()
        assert may_end.wait(60)  # while the loop goes on
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    checks, known = Checks(), hashed("right").encode()
    flood = [asyncio.create_task(checks.right(b"wrong", known)) for _ in range(6)]
    for _ in range(2):
        assert await in_thread(begun.acquire, timeout=60)
    await settle()
    assert len(running) == 2
    assert threading.get_ident() not in running
    may_end.set()
    assert not any(await asyncio.gather(*flood))
    assert len(running) == 6
