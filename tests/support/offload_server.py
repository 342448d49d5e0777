"""The way to tier 2 as a process of its own, to be killed: python -m tests.support.offload_server FOLDER.

It prints a line with the process id of its nats-server once that is there.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.support.offloading import opened, postgres_settings, running, until


async def main(folder: Path) -> None:
    """Run until killed."""
    settings = postgres_settings(folder)
    async with running(await opened(settings), settings) as offload:
        assert offload.nats is not None
        await until(lambda: offload.queue.queue is not None)
        process = offload.nats.process
        assert process is not None
        sys.stdout.write(f"{process.pid}\n")
        sys.stdout.flush()
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
