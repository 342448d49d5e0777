"""In whose name telemetry is sent: the attributes of the resource.

Of two sources for one attribute the first wins: OTEL_SERVICE_NAME (for service.name), OTEL_RESOURCE_ATTRIBUTES, the
variables of Kubernetes (CONTAINER_NAME, POD_NAME, NAMESPACE_NAME), the detectors of OTEL_RESOURCE_DETECTORS, defaults.
service.instance.id keeps two programs of one name apart: namespace.pod.container where those are known, else the
name of the host.
Source: OpenTelemetry, Resource Semantic Conventions; the detectors' names are those of Go's autodetect.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tallykeep import __version__
from tallykeep.telemetry.settings import TelemetrySettings

SERVICE = "tallykeep"
_CONTAINER_ID = re.compile(r"/containers/([0-9a-f]{64})/|[/:-]([0-9a-f]{64})(?:\.scope)?$", re.MULTILINE)


def attributes(settings: TelemetrySettings) -> dict[str, str | int]:
    """The attributes of the resource."""
    given = dict(settings.resource_attributes or {})
    if settings.service_name:
        given["service.name"] = settings.service_name
    kubernetes = {
        "k8s.container.name": settings.container_name,
        "k8s.pod.name": settings.pod_name,
        "k8s.namespace.name": settings.namespace_name,
    }
    detected: dict[str, str | int] = {}
    for name in settings.resource_detectors:
        detected |= DETECTORS[name]() if name in DETECTORS else {}
    found = _defaults() | detected | {key: value for key, value in kubernetes.items() if value} | given
    return {"service.instance.id": _instance(found), **found}


def unknown_detectors(settings: TelemetrySettings) -> list[str]:
    """The detectors asked for that there are not (those of clouds, say)."""
    return [name for name in settings.resource_detectors if name not in DETECTORS]


def named(settings: TelemetrySettings) -> bool:
    """Whether the service has been given a name."""
    return bool(settings.service_name or (settings.resource_attributes or {}).get("service.name"))


def _instance(found: Mapping[str, str | int]) -> str:
    keys = ("k8s.namespace.name", "k8s.pod.name", "k8s.container.name")
    if "k8s.pod.name" in found:
        return ".".join(str(found[key]) for key in keys if key in found)
    return str(found.get("host.name") or socket.gethostname())


def _defaults() -> dict[str, str | int]:
    return {"service.name": SERVICE, "service.version": __version__, **_sdk()}


def _sdk() -> dict[str, str | int]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        released = version("opentelemetry-sdk")
    except PackageNotFoundError:
        released = ""
    return {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        **({"telemetry.sdk.version": released} if released else {}),
    }


def _host() -> dict[str, str | int]:
    return {"host.name": socket.gethostname(), "host.arch": _ARCHITECTURES.get(platform.machine(), platform.machine())}


def _host_id() -> dict[str, str | int]:
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text:
            return {"host.id": text}
    return {}


def _os_type() -> dict[str, str | int]:
    return {"os.type": platform.system().lower()}


def _os_description() -> dict[str, str | int]:
    return {"os.description": platform.platform()}


def _pid() -> dict[str, str | int]:
    return {"process.pid": os.getpid()}


def _executable_name() -> dict[str, str | int]:
    return {"process.executable.name": Path(sys.executable).resolve().name}


def _executable_path() -> dict[str, str | int]:
    return {"process.executable.path": str(Path(sys.executable).resolve())}


def _command() -> dict[str, str | int]:
    return {"process.command": Path(sys.argv[0]).name}  # arguments may hold secrets: they are not sent


def _owner() -> dict[str, str | int]:
    try:
        return {"process.owner": getpass.getuser()}
    except (KeyError, OSError):  # a uid without a name, as containers have
        return {"process.owner": str(os.getuid())}


def _runtime_name() -> dict[str, str | int]:
    return {"process.runtime.name": sys.implementation.name}


def _runtime_version() -> dict[str, str | int]:
    return {"process.runtime.version": platform.python_version()}


def _runtime_description() -> dict[str, str | int]:
    return {"process.runtime.description": sys.version.replace("\n", " ")}


def _container() -> dict[str, str | int]:
    for name in ("/proc/self/cgroup", "/proc/self/mountinfo"):
        try:
            match = _CONTAINER_ID.search(Path(name).read_text())
        except OSError:
            continue
        if match:
            return {"container.id": match[1] or match[2]}
    return {}


def _together(*detectors: Callable[[], dict[str, str | int]]) -> Callable[[], dict[str, str | int]]:
    def all_of_them() -> dict[str, str | int]:
        return {key: value for detect in detectors for key, value in detect().items()}

    return all_of_them


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_runtime = (_runtime_name, _runtime_version, _runtime_description)
DETECTORS: Mapping[str, Callable[[], dict[str, str | int]]] = {
    "telemetry.sdk": _sdk,
    "host": _host,
    "host.id": _host_id,
    "os": _together(_os_type, _os_description),
    "os.type": _os_type,
    "os.description": _os_description,
    "process": _together(_pid, _executable_name, _executable_path, _command, _owner, *_runtime),
    "process.pid": _pid,
    "process.executable.name": _executable_name,
    "process.executable.path": _executable_path,
    "process.command.args": _command,
    "process.owner": _owner,
    "process.runtime.name": _runtime_name,
    "process.runtime.version": _runtime_version,
    "process.runtime.description": _runtime_description,
    "container": _container,
    "container.id": _container,
}
