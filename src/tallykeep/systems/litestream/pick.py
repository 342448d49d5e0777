"""The target that a command line means: a path, a URL, or the name of a configured one; and its live side."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tallykeep.config.load import Config
from tallykeep.errors import ConfigError
from tallykeep.systems.litestream.local_side import database_beside, find_local
from tallykeep.systems.litestream.opening import all_targets
from tallykeep.systems.litestream.targets import Target, parse_target

CONFIG_VARIABLE = "TALLYKEEP_CONFIG"

LoadConfig = Callable[[Path | None], Config]


def pick_target(args: argparse.Namespace) -> Target:
    """The target of `args.target`, with the live side of `args.local` where that is given.

    A name is looked up when --config is given, or when no such path exists and settings are there to be read.
    Raises: ConfigError.
    """
    text: str = args.target
    target = _configured(args, text) or parse_target(text, os.environ)
    local: Path | None = getattr(args, "local", None)
    if local is None:
        return target
    ltx = find_local(local)
    return replace(target, local=ltx, database=local if local.is_file() else database_beside(ltx))


def _configured(args: argparse.Namespace, text: str) -> Target | None:
    load: LoadConfig | None = getattr(args, "load_config", None)
    if "://" in text or load is None:
        return None
    asked = args.config is not None
    if not asked and ("/" in text or Path(text).exists()):
        return None
    try:
        settings = load(args.config).section("litestream")
        targets = {target.name: target for target in all_targets(settings, os.environ)}
    except ConfigError:
        if asked or os.environ.get(CONFIG_VARIABLE):
            raise
        return None
    if asked and text not in targets and not Path(text).exists():
        raise ConfigError(f"{args.config} has no target {text!r}, only: {', '.join(targets)}")
    return targets.get(text)
