"""A real Prometheus and its promtool, for tests that must know what they make of our pages and rules.

Both are Debian's package `prometheus`; a test that needs them skips without it, and fails without it in CI.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.servers import need

from tallykeep.errors import Unreachable
from tallykeep.runtime.processes import ManagedProcess, free_port

MISSING = "`apt-get install prometheus` brings prometheus and promtool"
_POLL = 0.2
_TRIES = 3  # another process may take the port between the look and the start


def need_prometheus() -> None:
    """Skip the test where Prometheus is not installed (a failure where CI=true)."""
    need("prometheus", MISSING)
    need("promtool", MISSING)


def promtool(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """What promtool said, to both its outputs in `stdout`."""
    return subprocess.run(
        ["promtool", *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60
    )


class PrometheusServer:
    """A Prometheus that scrapes `targets` ("host:port") every second and evaluates `rules` (YAML) as often.

    `scrape` holds further keys of the scrape config: scheme, tls_config, basic_auth. Use it as a context manager.
    """

    def __init__(
        self, folder: Path, targets: Sequence[str], rules: str = "", scrape: Mapping[str, object] | None = None
    ) -> None:
        self._folder = folder
        self._targets = list(targets)
        self._rules = rules
        self._scrape = dict(scrape or {})
        self._process: ManagedProcess | None = None
        self.url = ""

    def start(self) -> None:
        """Return once it is ready. Skips the test where there is none."""
        need_prometheus()
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "rules.yml").write_text(self._rules or "groups: []\n")
        config = self._folder / "prometheus.json"  # JSON is YAML
        config.write_text(json.dumps(self._config()))
        for attempt in range(1, _TRIES + 1):
            self._process = self._started(config, free_port())
            try:
                self._process.wait_ready(lambda: bool(self._get("/-/ready")), timeout=60)
            except Unreachable:
                taken = not self._process.alive
                self._process.kill()
                if attempt == _TRIES or not taken:
                    raise
            else:
                return

    def _started(self, config: Path, port: int) -> ManagedProcess:
        self.url = f"http://127.0.0.1:{port}"
        process = ManagedProcess(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=self._folder,
            log=self._folder / "prometheus.log",
        )
        process.start()
        return process

    def stop(self) -> None:
        """Stop it; stopping a stopped one is success."""
        if self._process is not None:
            self._process.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: [{"metric": labels, "value": [time, "1"]}, ...]."""
        found: list[dict[str, Any]] = self._api("/api/v1/query", query=expression)["result"]
        return found

    def there(self, expression: str) -> list[dict[str, Any]]:
        """The same once there are any: a scrape that took more than its second leaves none until the next."""
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            found[:] = self.query(expression)
            return bool(found)

        self.wait_for(seen, expression)
        return found

    def alerts(self, state: str = "firing") -> dict[str, dict[str, str]]:
        """The alerts in that state, by title, with the labels of one of their series."""
        found = self._api("/api/v1/alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["labels"] for alert in found if alert["state"] == state}

    def targets(self) -> list[dict[str, Any]]:
        """The scraped targets with their health and last error."""
        found: list[dict[str, Any]] = self._api("/api/v1/targets")["activeTargets"]
        return found

    def wait_for(self, check: Callable[[], object], what: str, timeout: float = 60.0) -> None:
        """Return once `check()` is true; an AssertionError that says what was waited for, when it does not get so."""
        deadline = time.monotonic() + timeout
        while not check():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not so after {timeout:g} s; targets: {self.targets()}")
            time.sleep(_POLL)

    def _config(self) -> dict[str, object]:
        job = {"job_name": "tallykeep", "static_configs": [{"targets": self._targets}], **self._scrape}
        return {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [job],
        }

    def _api(self, path: str, **parameters: str) -> Any:
        answer = json.loads(self._get(f"{path}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            body: bytes = reply.read()
        return body

    def __enter__(self) -> PrometheusServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
