"""A real S3 that freezes, refuses, stumbles and cuts replies: every time a typed error, in time, without secrets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.faults import Fault, FaultProxy, listing, reading, writing
from tests.support.workshop import keys_of

from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.errors import Conflict, Denied, NotFound, StoreError, Unavailable
from tallykeep.runtime.processes import free_port
from tallykeep.storage.chunks import chunks
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.retry import RetryStore
from tallykeep.storage.s3 import S3Settings

pytestmark = pytest.mark.server

_COUNT = 2200  # objects: three pages of S3
_KEYS = [f"{number:08x}" for number in range(_COUNT)]
_LIMIT = 60.0  # seconds; far more than calls that are to fail are given here


@pytest.fixture(scope="module")
def listed(seaweedfs: SeaweedFS) -> S3Settings:
    """A bucket with three pages of objects, made once."""
    seaweedfs.create_bucket("listed")
    settings = replace(seaweedfs.settings("listed", "db"), timeout=60, connect_timeout=60)
    asyncio.run(_fill(CloudStore.s3(settings)))
    return settings


async def _fill(store: CloudStore) -> None:
    for start in range(0, _COUNT, 50):
        await asyncio.gather(*(store.replace(key, b"x") for key in _KEYS[start : start + 50]))


async def _error(call: Awaitable[object]) -> StoreError:
    """The StoreError that `call` ends in of itself."""
    with pytest.raises(StoreError) as failure:
        await asyncio.wait_for(call, _LIMIT)
    return failure.value


def _calls(store: CloudStore) -> list[Callable[[], Coroutine[Any, Any, object]]]:
    return [
        lambda: keys_of(store),
        lambda: store.head("key"),
        lambda: store.read("key"),
        lambda: store.read_range("key", 0, 1),
        lambda: store.create("key", b"x"),
        lambda: store.replace("key", b"x"),
        lambda: store.delete("key"),
    ]


async def _begun(store: CloudStore) -> AsyncIterator[object]:
    """A listing that has its first page: a busy machine may take longer for it than `store` waits."""
    async with asyncio.timeout(60):
        while True:
            pages = store.list()
            with suppress(Unavailable):
                assert await anext(pages)
                return pages


async def test_a_frozen_server_is_unavailable(own_seaweedfs: SeaweedFS) -> None:
    """ "No call waits for ever": every call ends within its time-out, also in the middle, and works after a thaw."""
    own_seaweedfs.create_bucket("frozen")
    settings = own_seaweedfs.settings("frozen")
    await _fill(CloudStore.s3(replace(settings, timeout=60)))
    store = CloudStore.s3(replace(settings, timeout=1.0))
    pages = await _begun(store)
    pieces = chunks(store, _KEYS[0], 1)
    own_seaweedfs.freeze()
    calls = [call() for call in _calls(store)] + [anext(pages), anext(pieces)]
    errors = await asyncio.gather(*(_error(call) for call in calls))
    assert {type(error) for error in errors} == {Unavailable}
    assert all("within 1 s" in str(error) for error in errors), errors
    own_seaweedfs.thaw()
    assert (await keys_of(CloudStore.s3(replace(settings, timeout=60))))[:_COUNT] == _KEYS


async def test_a_refused_port_is_unavailable() -> None:
    """Nobody there: said at once, with the address and the reason."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    store = CloudStore.s3(S3Settings("bucket", endpoint=endpoint, access_key="a", secret_key="s"))
    for call in _calls(store):
        error = await _error(call())
        assert isinstance(error, Unavailable)
        assert f"{endpoint}: Connection refused" in str(error)


async def test_an_unknown_host_is_unavailable() -> None:
    """A name that does not resolve may be a typing error or a name server that is down: it may work later."""
    store = CloudStore.s3(
        S3Settings("bucket", endpoint="http://no-such-host.invalid", access_key="a", secret_key="s", timeout=5)
    )
    error = await _error(store.read("key"))
    assert isinstance(error, Unavailable)
    assert "no-such-host.invalid" in str(error)


async def test_wrong_credentials_are_denied(listed: S3Settings) -> None:
    """A wrong secret, an unknown key or none at all is Denied, and no message holds what was given."""
    for wrong in (
        replace(listed, secret_key="not-the-secret"),
        replace(listed, access_key="nobody-known"),
        replace(listed, anonymous=True),
        replace(listed, session_token="some-token"),
    ):
        store = CloudStore.s3(wrong)
        for call in _calls(store):
            error = await _error(call())
            assert isinstance(error, Denied), (wrong, error)
            assert "403" in str(error)
            text = f"{error}{error!r}{error.__cause__!r}{store!r}{wrong!r}"
            for secret in ("not-the-secret", listed.secret_key, listed.access_key, "nobody-known", "some-token"):
                assert secret not in text


async def test_a_missing_bucket_is_named(listed: S3Settings) -> None:
    """The message says that it is the bucket that is missing, and where it was looked for."""
    store = CloudStore.s3(replace(listed, bucket="no-such-bucket"))
    for call in _calls(store)[:-1]:
        assert isinstance(await _error(call()), NotFound)
    error = await _error(store.read("key"))
    assert f"{listed.endpoint} knows no such bucket" in str(error)


async def test_a_listing_that_breaks_off_raises(listed: S3Settings) -> None:
    """ "A listing that fails in the middle raises: it never just ends", wherever in the second reply it is cut."""
    for cut in (0, 17, 400, 5_000, 100_000):
        with FaultProxy(listed.endpoint, Fault(listing, first=2, cut=cut)) as proxy:
            store = CloudStore.s3(replace(listed, endpoint=proxy.endpoint))
            found: list[str] = []
            with pytest.raises(Unavailable):
                async for page in store.list():
                    found += [info.key for info in page]
            assert found == _KEYS[:1000]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(listing, first=2, status=503, code="SlowDown"),
        Fault(listing, first=2, status=500),
        Fault(listing, first=2, status=429),
        Fault(listing, first=2, drop=True),
        Fault(listing, first=2, cut=1000),
        Fault(listing, first=1, times=2, status=503),
    ],
    ids=lambda fault: f"{fault.status or 'cut'}",
)
async def test_a_listing_goes_on_where_it_failed(listed: S3Settings, fault: Fault) -> None:
    """The retry wrapper does not begin again: it goes on after the last key it had."""
    with FaultProxy(listed.endpoint, replace(fault)) as proxy:
        store = RetryStore(CloudStore.s3(replace(listed, endpoint=proxy.endpoint)))
        assert await keys_of(store) == _KEYS
    assert len(proxy.listings()) == 3 + fault.times
    if fault.first == 2:
        assert f"start-after=db%2F{_KEYS[999]}" in proxy.listings()[2].target


async def test_a_slow_server_is_waited_for_within_the_timeout(listed: S3Settings) -> None:
    """A delay below the time-out is no error; one above it is Unavailable."""
    with FaultProxy(listed.endpoint, Fault(reading, times=0, delay=0.5)) as proxy:
        settings = replace(listed, endpoint=proxy.endpoint)
        assert await CloudStore.s3(settings).read(_KEYS[0]) == b"x"
        error = await _error(CloudStore.s3(replace(settings, timeout=0.2)).read(_KEYS[0]))
    assert isinstance(error, Unavailable)


async def test_a_read_that_breaks_off_is_unavailable(listed: S3Settings) -> None:
    """Fewer bytes than were announced are never handed out."""
    content = bytes(1 << 20)
    await CloudStore.s3(listed).replace("large", content)
    try:
        for cut in (100, 1000, 500_000):
            with FaultProxy(listed.endpoint, Fault(reading, times=0, cut=cut)) as proxy:
                store = CloudStore.s3(replace(listed, endpoint=proxy.endpoint))
                assert isinstance(await _error(store.read("large")), Unavailable)
                assert isinstance(await _error(store.read_range("large", 0, 1 << 20)), Unavailable)
    finally:
        await CloudStore.s3(listed).delete("large")


async def test_a_create_whose_reply_is_lost(seaweedfs: SeaweedFS, bucket: str) -> None:
    """ "After a lost reply a retried create may meet its own object: the caller tells by the content." """
    settings = seaweedfs.settings(bucket)
    with FaultProxy(settings.endpoint, Fault(writing, lose=True)) as proxy:
        store = RetryStore(CloudStore.s3(replace(settings, endpoint=proxy.endpoint)))
        with pytest.raises(Conflict):
            await store.create("lease", b"mine: 1234")
        assert await store.read("lease") == b"mine: 1234"


@pytest.mark.parametrize(("status", "code", "kind"), [
    (403, "AccessDenied", Denied), (401, "Unauthorized", Denied), (400, "ExpiredToken", Denied),
    (400, "AuthorizationHeaderMalformed", Denied), (301, "PermanentRedirect", Denied), (404, "NoSuchBucket", NotFound),
    (501, "NotImplemented", Unavailable), (503, "SlowDown", Unavailable), (408, "RequestTimeout", Unavailable),
])  # fmt: skip
async def test_what_servers_answer(listed: S3Settings, status: int, code: str, kind: type[StoreError]) -> None:
    """Every status is one error of the tree, with the server's own words, and told at once: a call is one request."""
    with FaultProxy(listed.endpoint, Fault(times=0, status=status, code=code)) as proxy:
        store = CloudStore.s3(replace(listed, endpoint=proxy.endpoint))
        for call in (lambda: keys_of(store), lambda: store.read("key"), lambda: store.replace("key", b"")):
            error = await _error(call())
            assert type(error) is kind, (status, error)
            assert code in str(error) or "no such bucket" in str(error) or "to another region" in str(error)
        assert len(proxy.seen) == 3


async def test_nothing_leaks_in_from_the_environment(
    seaweedfs: SeaweedFS, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the settings say holds, whatever AWS_* says: endpoint, credentials, token, style, signing, TLS."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "leak", "AWS_SECRET_ACCESS_KEY": "leak", "AWS_SESSION_TOKEN": "leak",
        "AWS_REGION": "mars-1", "AWS_DEFAULT_REGION": "mars-1", "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true", "AWS_REQUEST_PAYER": "true", "AWS_S3_EXPRESS": "true",
        "AWS_ALLOW_INVALID_CERTIFICATES": "true", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": "leak",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/leak", "AWS_UNSIGNED_PAYLOAD": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with FaultProxy(seaweedfs.endpoint) as proxy:
        store = CloudStore.s3(replace(seaweedfs.settings(bucket), endpoint=proxy.endpoint))
        await store.create("key", b"content")
        assert await store.read("key") == b"content"
        assert await keys_of(store) == ["key"]
    assert {seen.target.split("?")[0] for seen in proxy.seen} == {f"/{bucket}/key", f"/{bucket}"}


async def test_credentials_of_the_environment_are_used_where_none_are_given(
    seaweedfs: SeaweedFS, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings without credentials mean those that AWS's own tools would find."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    store = CloudStore.s3(S3Settings(bucket, endpoint=seaweedfs.endpoint))
    await store.create("key", b"")
    assert await keys_of(store) == ["key"]


@pytest.fixture
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts yet."""
    return trustme.CA()


@pytest.fixture
async def over_tls(seaweedfs: SeaweedFS, bucket: str, authority: trustme.CA) -> AsyncIterator[S3Settings]:
    """A bucket behind TLS with a certificate of `authority`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultProxy(seaweedfs.endpoint, tls=context) as proxy:
        yield replace(seaweedfs.settings(bucket), endpoint=proxy.endpoint)


async def test_an_unknown_authority_is_not_trusted(over_tls: S3Settings) -> None:
    """TLS is verified unless the settings say otherwise, and trying again would not help."""
    error = await _error(CloudStore.s3(over_tls).replace("key", b""))
    assert isinstance(error, Unavailable)
    assert error.retry is None
    assert "no TLS that can be trusted (UnknownIssuer)" in str(error)


async def test_an_authority_of_ones_own(
    over_tls: S3Settings, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CA file makes it trusted, named in the settings or in SSL_CERT_FILE; so does not verifying at all."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    await CloudStore.s3(replace(over_tls, ca_file=ca_file)).replace("a", b"")
    await CloudStore.s3(replace(over_tls, verify_tls=False)).replace("b", b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert await keys_of(CloudStore.s3(over_tls)) == ["a", "b"]


async def test_tls_where_there_is_none(listed: S3Settings) -> None:
    """https to a server that speaks http says so."""
    store = CloudStore.s3(replace(listed, endpoint=listed.endpoint.replace("http", "https")))
    error = await _error(store.read("key"))
    assert isinstance(error, Unavailable)
    assert "correct http to https or back" in str(error) or "TLS" in str(error)
