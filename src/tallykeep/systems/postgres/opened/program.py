"""A program that runs beside an open server, on the same terminal.

Ctrl-C on a terminal goes to the program as well, which may go on: psql cancels a query. So it is not for us. What was
sent to this process alone is passed on. The program is not killed when this process is: it loses its server.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tallykeep.errors import ConfigError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_SIGNAL = 128  # a shell's status of a program that a signal has ended


def check(argv: Sequence[str]) -> None:
    """Raises: ConfigError where there is no such program."""
    if argv and shutil.which(argv[0]) is None:
        raise ConfigError(f"{argv[0]}: there is no such program to run; a cluster is chosen with --cluster")


async def run(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run it to its end; its exit status, as a shell tells it. Raises: ConfigError where it does not start."""
    try:
        child = await asyncio.create_subprocess_exec(*argv, env=environment)
    except OSError as error:
        raise ConfigError(f"{argv[0]}: cannot be run: {error.strerror}") from None
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, _pass_on, child, number)
    status = await child.wait()
    return status if status >= 0 else _BY_SIGNAL - status


def _pass_on(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if number is signal.SIGINT and _on_terminal():
        return
    with suppress(ProcessLookupError):
        child.send_signal(number)


def _on_terminal() -> bool:
    """Whether a terminal sends its Ctrl-C to the program too, which is in our process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
