"""Azure and Google: what settings say of themselves, what they refuse, where requests go, and with what."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tallykeep.errors import ConfigError, Conflict, Denied
from tallykeep.storage.azure import AzureSettings, azure_store
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.gcs import GcsSettings, gcs_store

_AZURE = AzureSettings("container", "account", account_key=base64.b64encode(b"the-key").decode())
_GCS = GcsSettings("bucket", endpoint="http://127.0.0.1:1")


class Heard:
    """A server that notes requests and answers each with one status."""

    def __init__(self, status: int) -> None:
        self.lines: list[str] = []
        self.headers: list[dict[str, str]] = []
        heard = self

        class Handler(BaseHTTPRequestHandler):
            """Notes and answers."""

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                heard.lines.append(f"{self.command} {self.path}")
                heard.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(status)
                self.send_header("ETag", '"1"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def during(self, work: Callable[[], None]) -> None:
        """Serve while `work` runs."""
        thread = Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            work()
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def created(store: CloudStore) -> None:
    """Create one object."""
    asyncio.run(store.create("a key", b"content"))


def test_no_secret_shows() -> None:
    """Neither the settings' repr nor the store's holds a secret."""
    for settings in (_AZURE, replace(_AZURE, account_key="", sas_token="sv=the-token")):
        for text in (repr(settings), repr(azure_store(settings)), azure_store(settings).name):
            assert not any(secret in text for secret in (_AZURE.account_key, "the-token"))


@pytest.mark.parametrize("prefix", ["", "a/b", "/a/b/"])
def test_the_name_is_a_url(prefix: str) -> None:
    """Container or bucket and prefix, whatever slashes the prefix is written with."""
    rest = "/a/b" if prefix else ""
    azure, gcs = azure_store(replace(_AZURE, prefix=prefix)), gcs_store(replace(_GCS, prefix=prefix))
    assert (azure.name, azure.backend) == (f"az://container{rest}", "azure")
    assert (gcs.name, gcs.backend) == (f"gs://bucket{rest}", "gcs")


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Two kinds of credentials, keys that are none, files that are not there: each named."""
    with pytest.raises(ConfigError, match="not both"):
        azure_store(replace(_AZURE, sas_token="sv=1"))
    with pytest.raises(ConfigError, match="az://container"):
        azure_store(replace(_AZURE, account_key="%%%"))
    with pytest.raises(ConfigError, match=r"the CA file .*no\.pem cannot be read"):
        azure_store(replace(_AZURE, ca_file=tmp_path / "no.pem"))
    with pytest.raises(ConfigError, match="gs://bucket"):
        gcs_store(GcsSettings("bucket", service_account=tmp_path / "no.json"))
    (tmp_path / "bad.json").write_text(json.dumps({"private_key": 1}))
    with pytest.raises(ConfigError, match="gs://bucket"):
        gcs_store(GcsSettings("bucket", service_account=tmp_path / "bad.json"))


def test_a_create_is_conditional_at_google(tmp_path: Path) -> None:
    """A create asks for generation 0, "nothing there"; a refusal of that is a Conflict. Uploads go below the prefix."""
    for status in (200, 412):
        heard = Heard(status)
        account = tmp_path / "emulator.json"
        account.write_text(json.dumps({"gcs_base_url": heard.endpoint, "disable_oauth": True, "client_email": "",
                                       "private_key": "", "private_key_id": ""}))  # fmt: skip
        store = gcs_store(GcsSettings("bucket", "some/prefix", service_account=account))
        if status == 200:
            heard.during(lambda store=store: created(store))  # type: ignore[misc]
            assert heard.headers[0]["x-goog-if-generation-match"] == "0"
            assert heard.lines == ["PUT /bucket/some%2Fprefix%2Fa%20key"]
        else:
            with pytest.raises(Conflict, match="is there already"):
                heard.during(lambda store=store: created(store))  # type: ignore[misc]


def test_a_create_is_conditional_at_azure() -> None:
    """A create asks that nothing is there, signed with the account's key."""
    heard = Heard(201)
    heard.during(lambda: created(azure_store(replace(_AZURE, endpoint=heard.endpoint))))
    assert heard.headers[0]["if-none-match"] == "*"
    assert heard.headers[0]["authorization"].startswith("SharedKey account:")
    assert heard.lines == ["PUT /container/a%20key"]


def test_a_refusal_is_denied() -> None:
    """Who may not write is told so, once."""
    heard = Heard(403)
    with pytest.raises(Denied, match=r"az://container/a key: writing it was answered with 403"):
        heard.during(lambda: created(azure_store(replace(_AZURE, endpoint=heard.endpoint))))
    assert len(heard.lines) == 1
