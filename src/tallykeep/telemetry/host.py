"""Looks at this process, its Python and the machine, as far as the system tells.

What a platform does not count (disk bytes of a process on macOS) is left out, not shown as 0. Shares are over the
time since the last look, so the first look has none.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import psutil

from tallykeep.metrics import Family, Sample
from tallykeep.runtime.threads import in_thread
from tallykeep.telemetry import host_families as f

_CPU_STATES = ("idle", "user", "system", "irq")
_MEMORY_STATES = ("used", "free", "cached")
_SWAP_STATES = ("used", "free")
_DISK = ("read", "write")
_NETWORK = {"transmit": ("sent", "out"), "receive": ("recv", "in")}  # direction -> as psutil ends its fields


class HostCollector:
    """The collector of process, runtime and host figures."""

    name = "host"
    target = "self"
    timeout = 10.0

    def __init__(self, interval: float = 15.0) -> None:
        self.interval = interval
        self._process = psutil.Process()
        self._looked = False

    def verdicts(self) -> Sequence[Sample]:
        """None: it judges nothing."""
        return ()

    async def collect(self) -> AsyncIterator[Sample]:
        """Look once."""
        for sample in await in_thread(self._look):
            yield sample

    def _look(self) -> list[Sample]:
        shares = self._shares()
        found = [*_cpu(), *_memory(), *_disks(), *_network(), *_process(self._process), *_python()]
        first, self._looked = not self._looked, True
        return found if first else [*found, *shares]

    def _shares(self) -> list[Sample]:
        cpus = psutil.cpu_times_percent(percpu=True)
        own = self._process.cpu_percent() / 100 / (psutil.cpu_count() or 1)
        machine = [
            f.CPU_UTILIZATION(getattr(times, state) / 100, cpu=cpu, state=state)
            for cpu, times in enumerate(cpus)
            for state in _CPU_STATES
            if hasattr(times, state)
        ]
        return [*machine, f.PROCESS_CPU_UTILIZATION(own)]


def _cpu() -> Iterator[Sample]:
    for cpu, times in enumerate(psutil.cpu_times(percpu=True)):
        for state in _CPU_STATES:
            if hasattr(times, state):
                yield f.CPU_TIME(getattr(times, state), cpu=cpu, state=state)


def _memory() -> Iterator[Sample]:
    yield from _states(psutil.virtual_memory(), _MEMORY_STATES, f.MEMORY_USAGE, f.MEMORY_UTILIZATION)
    yield from _states(psutil.swap_memory(), _SWAP_STATES, f.PAGING_USAGE, f.PAGING_UTILIZATION)


def _states(seen: Any, states: Sequence[str], usage: Family, share: Family) -> Iterator[Sample]:
    for state in states:
        if hasattr(seen, state):
            yield usage(getattr(seen, state), state=state)
            yield share(getattr(seen, state) / seen.total if seen.total else 0.0, state=state)


def _disks() -> Iterator[Sample]:
    for device, seen in (psutil.disk_io_counters(perdisk=True) or {}).items():
        for way in _DISK:
            yield f.DISK_IO(getattr(seen, f"{way}_bytes"), device=device, direction=way)
            yield f.DISK_OPERATIONS(getattr(seen, f"{way}_count"), device=device, direction=way)
            if hasattr(seen, f"{way}_time"):
                yield f.DISK_TIME(getattr(seen, f"{way}_time") / 1000, device=device, direction=way)


def _network() -> Iterator[Sample]:
    for device, seen in psutil.net_io_counters(pernic=True).items():
        for way, (verb, side) in _NETWORK.items():
            yield f.NETWORK_IO(getattr(seen, f"bytes_{verb}"), device=device, direction=way)
            yield f.NETWORK_PACKETS(getattr(seen, f"packets_{verb}"), device=device, direction=way)
            yield f.NETWORK_DROPPED(getattr(seen, f"drop{side}"), device=device, direction=way)
            yield f.NETWORK_ERRORS(getattr(seen, f"err{side}"), device=device, direction=way)


def _process(process: psutil.Process) -> Iterator[Sample]:
    with process.oneshot():
        times, memory, switches = process.cpu_times(), process.memory_info(), process.num_ctx_switches()
        yield f.PROCESS_CPU_TIME(times.user, type="user")
        yield f.PROCESS_CPU_TIME(times.system, type="system")
        yield f.PROCESS_MEMORY_USAGE(memory.rss)
        yield f.PROCESS_MEMORY_VIRTUAL(memory.vms)
        yield f.PROCESS_FILES(process.num_fds())
        yield f.PROCESS_THREADS(process.num_threads())
        yield f.PROCESS_SWITCHES(switches.voluntary, type="voluntary")
        yield f.PROCESS_SWITCHES(switches.involuntary, type="involuntary")
    yield from _process_disk(process)


def _process_disk(process: psutil.Process) -> Iterator[Sample]:
    try:
        seen = process.io_counters()
    except (AttributeError, NotImplementedError, psutil.AccessDenied):  # macOS has none; some containers hide them
        return
    yield f.PROCESS_DISK_IO(seen.read_bytes, direction="read")
    yield f.PROCESS_DISK_IO(seen.write_bytes, direction="write")


def _python() -> Iterator[Sample]:
    stats: list[Mapping[str, int]] = gc.get_stats()  # type: ignore[assignment]
    for generation, seen in enumerate(stats):
        yield f.GC_COLLECTIONS(seen["collections"], generation=generation)
        yield f.GC_COLLECTED(seen["collected"], generation=generation)
        yield f.GC_UNCOLLECTABLE(seen["uncollectable"], generation=generation)
