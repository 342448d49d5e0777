"""`tallykeep version`: what to put into a report."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from tallykeep import __version__

_LIBRARIES = (
    "bcrypt",
    "blake3",
    "confluent-kafka",
    "cronsim",
    "cryptography",
    "fastapi",
    "fastcrc",
    "httpx2",
    "lz4",
    "nats-py",
    "numpy",
    "obstore",
    "opentelemetry-sdk",
    "prometheus-client",
    "psycopg",
    "pyyaml",
    "rich",
    "uvicorn",
    "zstandard",
)


def add(parser: argparse.ArgumentParser) -> None:
    """Say what this command takes."""
    parser.description = "Versions of tallykeep, Python, the system and the libraries in use."
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print versions."""
    told = {
        "tallykeep": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "executable": sys.executable,
        **{name: _version(name) for name in _LIBRARIES},
    }
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        print(f"tallykeep {__version__}")
        print("\n".join(f"  {name:17} {text}" for name, text in list(told.items())[1:]))
    return 0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
