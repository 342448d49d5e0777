"""This process, its Python and the machine it runs on, under the names of OpenTelemetry.

Names, units and attributes are those of opentelemetry-instrumentation-system-metrics 0.66b2, without the deprecated
process.runtime.* that say the same again, and without counting every connection of the machine. Swap is measured in
bytes and called system.paging, as the semantic conventions have it: the instrumentation's `pages` are bytes too.
What goes up and down is a gauge.
"""

from __future__ import annotations

from tallykeep.metrics import Family, Kind
from tallykeep.units import BYTES, RATIO, SECONDS, Unit

_PACKETS = Unit("", "{packet}", "short")
_OPERATIONS = Unit("", "{operation}", "short")
_PLAIN = Unit("", "", "short")
_IO = ("device", "direction")
_OTHERS = "seen by this machine or container"

CPU_TIME = Family(
    "system_cpu_time_seconds_total", Kind.COUNTER, SECONDS, ("cpu", "state"),
    "Seconds each CPU spent in each state.", otel="system.cpu.time",
)  # fmt: skip
CPU_UTILIZATION = Family(
    "system_cpu_utilization_ratio", Kind.GAUGE, RATIO, ("cpu", "state"),
    "Share of the time since the last look that each CPU spent in each state, 0 to 1.", otel="system.cpu.utilization",
)  # fmt: skip
MEMORY_USAGE = Family(
    "system_memory_usage_bytes", Kind.GAUGE, BYTES, ("state",),
    "Memory of the machine, by state.", otel="system.memory.usage",
)  # fmt: skip
MEMORY_UTILIZATION = Family(
    "system_memory_utilization_ratio", Kind.GAUGE, RATIO, ("state",),
    "Share of the machine's memory in each state, 0 to 1.", otel="system.memory.utilization",
)  # fmt: skip
PAGING_USAGE = Family(
    "system_paging_usage_bytes", Kind.GAUGE, BYTES, ("state",),
    "Swap space, by state.", otel="system.paging.usage",
)  # fmt: skip
PAGING_UTILIZATION = Family(
    "system_paging_utilization_ratio", Kind.GAUGE, RATIO, ("state",),
    "Share of the swap space in each state, 0 to 1.", otel="system.paging.utilization",
)  # fmt: skip
DISK_IO = Family(
    "system_disk_io_bytes_total", Kind.COUNTER, BYTES, _IO,
    "Bytes read from and written to each disk.", otel="system.disk.io",
)  # fmt: skip
DISK_OPERATIONS = Family(
    "system_disk_operations_total", Kind.COUNTER, _OPERATIONS, _IO,
    "Reads and writes of each disk.", otel="system.disk.operations",
)  # fmt: skip
DISK_TIME = Family(
    "system_disk_time_seconds_total", Kind.COUNTER, SECONDS, _IO,
    "Seconds each disk spent on reads and writes.", otel="system.disk.time",
)  # fmt: skip
NETWORK_IO = Family(
    "system_network_io_bytes_total", Kind.COUNTER, BYTES, _IO,
    f"Bytes of each network interface {_OTHERS}.", otel="system.network.io",
)  # fmt: skip
NETWORK_PACKETS = Family(
    "system_network_packets_total", Kind.COUNTER, _PACKETS, _IO,
    f"Packets of each network interface {_OTHERS}.", otel="system.network.packets",
)  # fmt: skip
NETWORK_DROPPED = Family(
    "system_network_dropped_packets_total", Kind.COUNTER, _PACKETS, _IO,
    "Packets that each network interface dropped.", otel="system.network.dropped_packets",
)  # fmt: skip
NETWORK_ERRORS = Family(
    "system_network_errors_total", Kind.COUNTER, Unit("", "{error}", "short"), _IO,
    "Errors of each network interface.", otel="system.network.errors",
)  # fmt: skip
PROCESS_CPU_TIME = Family(
    "process_cpu_time_seconds_total", Kind.COUNTER, SECONDS, ("type",),
    "Seconds of CPU that tallykeep has used, by type (user, system).", otel="process.cpu.time",
)  # fmt: skip
PROCESS_CPU_UTILIZATION = Family(
    "process_cpu_utilization_ratio", Kind.GAUGE, RATIO, (),
    "Share of all CPUs that tallykeep has used since the last look, 0 to 1.", otel="process.cpu.utilization",
)  # fmt: skip
PROCESS_MEMORY_USAGE = Family(
    "process_memory_usage_bytes", Kind.GAUGE, BYTES, (),
    "Physical memory that tallykeep uses.", otel="process.memory.usage",
)  # fmt: skip
PROCESS_MEMORY_VIRTUAL = Family(
    "process_memory_virtual_bytes", Kind.GAUGE, BYTES, (),
    "Virtual memory that tallykeep has reserved.", otel="process.memory.virtual",
)  # fmt: skip
PROCESS_FILES = Family(
    "process_open_file_descriptor_count", Kind.GAUGE, Unit("", "{file_descriptor}", "short"), (),
    "File descriptors that tallykeep has open.", otel="process.open_file_descriptor.count",
)  # fmt: skip
PROCESS_THREADS = Family(
    "process_thread_count", Kind.GAUGE, Unit("", "{thread}", "short"), (),
    "Threads of tallykeep.", otel="process.thread.count",
)  # fmt: skip
PROCESS_SWITCHES = Family(
    "process_context_switches_total", Kind.COUNTER, _PLAIN, ("type",),
    "Context switches of tallykeep, by type (voluntary, involuntary).", otel="process.context_switches",
)  # fmt: skip
PROCESS_DISK_IO = Family(
    "process_disk_io_bytes_total", Kind.COUNTER, BYTES, ("direction",),
    "Bytes that tallykeep has read from and written to disks.", otel="process.disk.io",
)  # fmt: skip
GC_COLLECTIONS = Family(
    "cpython_gc_collections_total", Kind.COUNTER, Unit("", "{collection}", "short"), ("generation",),
    "Garbage collections of each generation.", otel="cpython.gc.collections",
)  # fmt: skip
GC_COLLECTED = Family(
    "cpython_gc_collected_objects_total", Kind.COUNTER, Unit("", "{object}", "short"), ("generation",),
    "Objects freed by garbage collections of each generation.", otel="cpython.gc.collected_objects",
)  # fmt: skip
GC_UNCOLLECTABLE = Family(
    "cpython_gc_uncollectable_objects_total", Kind.COUNTER, Unit("", "{object}", "short"), ("generation",),
    "Objects that garbage collections of each generation could not free.", otel="cpython.gc.uncollectable_objects",
)  # fmt: skip

HOST = (
    CPU_TIME, CPU_UTILIZATION, MEMORY_USAGE, MEMORY_UTILIZATION, PAGING_USAGE, PAGING_UTILIZATION,
    DISK_IO, DISK_OPERATIONS, DISK_TIME, NETWORK_IO, NETWORK_PACKETS, NETWORK_DROPPED, NETWORK_ERRORS,
    PROCESS_CPU_TIME, PROCESS_CPU_UTILIZATION, PROCESS_MEMORY_USAGE, PROCESS_MEMORY_VIRTUAL, PROCESS_FILES,
    PROCESS_THREADS, PROCESS_SWITCHES, PROCESS_DISK_IO,
    GC_COLLECTIONS, GC_COLLECTED, GC_UNCOLLECTABLE,
)  # fmt: skip
