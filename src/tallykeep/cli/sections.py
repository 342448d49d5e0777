"""The settings of the whole program, as commands load them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tallykeep.config.load import PROGRAM, Config, load
from tallykeep.config.program import ProgramSettings
from tallykeep.config.sources import CONFIG_VARIABLE
from tallykeep.history.settings import HistorySettings
from tallykeep.systems import System, all_systems
from tallykeep.telemetry.settings import TelemetrySettings

HISTORY = "history"  # the section of what is kept of /metrics
TELEMETRY = "telemetry"  # the section of what is sent as OpenTelemetry


def sections(systems: tuple[System, ...] | None = None) -> Mapping[str, type[Any]]:
    """The settings class of each section: the program's own first, then the systems'."""
    found = all_systems() if systems is None else systems
    own = {PROGRAM: ProgramSettings, HISTORY: HistorySettings, TELEMETRY: TelemetrySettings}
    return own | {system.name: system.settings for system in found}


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """--config FILE."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help=f"tallykeep.yaml to read (also: {CONFIG_VARIABLE}; none by default)"
    )


def load_config(path: Path | None) -> Config:
    """Every setting, from the environment and the file given by --config or TALLYKEEP_CONFIG.

    Raises: ConfigError with every mistake.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    return load(sections(), os.environ, path or (Path(named) if named else None))
