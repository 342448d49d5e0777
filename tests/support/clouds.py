"""A stand-in for Azure: Azurite, from npm by tools/azurite. It holds everything in memory, on 127.0.0.1.

There is none for Google: fake-gcs-server (1.56) does not take the uploads of Google's XML API that obstore sends.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.support.servers import _give_up

from tallykeep.runtime.processes import ManagedProcess, free_port
from tallykeep.storage.azure import AzureSettings, azure_store
from tallykeep.storage.store import Store

_CACHE = Path(__file__).parents[2] / ".cache/azurite"
_AZURITE = _CACHE / "node_modules/azurite/dist/src/blob/main.js"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # Azurite's, public
_numbers = itertools.count(1)


class Azurite:
    """A blob service."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"

    def settings(self, container: str, prefix: str = "") -> AzureSettings:
        """How to come to a container."""
        return AzureSettings(container, ACCOUNT, prefix, self.endpoint, account_key=KEY)

    def create(self, container: str) -> None:
        """Make a container. Source: Azure Storage, Authorize with Shared Key."""
        moment, version = formatdate(usegmt=True), "2021-08-06"
        text = "PUT" + "\n" * 12 + f"x-ms-date:{moment}\nx-ms-version:{version}\n"
        text += f"/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
        signed = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        headers = {"x-ms-date": moment, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signed}"}
        _ask(f"{self.endpoint}/{container}?restype=container", "PUT", headers)


def _ask(url: str, method: str, headers: dict[str, str], body: bytes | None = None) -> None:
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60):
        pass


@contextmanager
def _running(argv: list[str], port: int, folder: Path) -> Iterator[None]:
    process = ManagedProcess(argv, env={"PATH": "/usr/bin:/bin", "HOME": str(folder)}, cwd=folder, log=folder / "log")
    process.start()
    try:
        process.wait_ready(lambda: _answers(port), 60)
        yield
    finally:
        process.stop(timeout=10)


def _answers(port: int) -> bool:
    """Whether anything but a refused connection comes back."""
    try:
        _ask(f"http://127.0.0.1:{port}/", "GET", {})
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A running stand-in for Azure."""
    node = shutil.which("node")
    if node is None or not _AZURITE.is_file():
        _give_up("Azurite is missing: tools/azurite (needs npm) brings it")
    port, folder = free_port(), tmp_path_factory.mktemp("azurite")
    argv = [node, str(_AZURITE), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry",
            "--blobHost", "127.0.0.1", "--blobPort", str(port)]  # fmt: skip
    with _running(argv, port, folder):
        yield Azurite(port)


def azure(server: Azurite, prefix: str, *, missing: bool) -> Store:
    """A store in a new container, or in one that does not exist."""
    name = f"container-{next(_numbers)}"
    if not missing:
        server.create(name)
    return azure_store(server.settings(name, prefix))
