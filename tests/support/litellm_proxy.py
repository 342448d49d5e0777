"""A real LiteLLM proxy with mock answers, in an environment of its own: its dependencies do not go with ours.

The environment is made once, in .cache/litellm, by pip (a minute, 700 MB); where that fails, tests that need it are
skipped with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.documents import ROOT

from tallykeep.runtime.processes import ManagedProcess, free_port

ENVIRONMENT = ROOT / ".cache" / "litellm"
KEY = "sk-tallykeep-0f9a8b7c6d5e4f3a2b1c"
_CONFIG = """\
model_list:
  - model_name: mock-gpt
    litellm_params: {model: openai/gpt-4o, api_key: sk-none, mock_response: "hello from a mock"}
  - model_name: mock-claude
    litellm_params: {model: anthropic/claude-3-5-sonnet-20240620, api_key: sk-none, mock_response: "bonjour"}
  - model_name: bad-model
    litellm_params: {model: openai/gpt-4o-mini, api_key: sk-none, mock_response: "litellm.RateLimitError"}
litellm_settings:
  callbacks: [prometheus]
  require_auth_for_metrics_endpoint: false
  num_retries: 0
general_settings:
  master_key: %s
"""


class LitellmProxy:
    """A running proxy."""

    def __init__(self, port: int, process: ManagedProcess) -> None:
        self.port = port
        self.process = process

    @property
    def metrics(self) -> str:
        """Its page, without the slash that it redirects to."""
        return f"http://127.0.0.1:{self.port}/metrics"

    def page(self) -> str:
        """The page as it stands."""
        with urllib.request.urlopen(f"{self.metrics}/", timeout=30) as reply:
            return str(reply.read().decode())

    def complete(self, model: str, text: str = "hi") -> int:
        """The status of one completion."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


def environment() -> Path:
    """The folder of its programs; the test is skipped where it cannot be had."""
    program = ENVIRONMENT / "bin" / "litellm"
    if not program.exists():
        ENVIRONMENT.parent.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True, capture_output=True)
        pip = [str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "litellm[proxy]", "prometheus_client"]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"litellm[proxy] cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return program.parent


@contextmanager
def litellm_proxy(folder: Path) -> Iterator[LitellmProxy]:
    """A proxy that answers, until the end of the block."""
    programs = environment()
    config = folder / "litellm.yaml"
    config.write_text(_CONFIG % KEY)
    port = free_port()
    argv = [str(programs / "litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    env = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with ManagedProcess(argv, env=env, cwd=folder, log=folder / "litellm.log") as process:
        proxy = LitellmProxy(port, process)
        process.wait_ready(lambda: _answers(proxy), timeout=120)
        yield proxy


def _answers(proxy: LitellmProxy) -> bool:
    try:
        return bool(proxy.page())
    except OSError:
        return False
