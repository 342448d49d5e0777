"""The settings of a Kafka command: a file as kafka-backup reads it, or the section `kafka` of tallykeep.yaml.

In a file of the first kind ${NAME} and ${NAME:-default} stand for variables, in values alone: what a variable holds
cannot change the file's structure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tallykeep.config.load import PROGRAM, Config, load
from tallykeep.config.sources import CONFIG_VARIABLE, read_file
from tallykeep.errors import ConfigError
from tallykeep.systems.kafka.failures import Missing, Unparsable
from tallykeep.systems.kafka.settings import KafkaSettings

SECTION = "kafka"
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}", re.ASCII)


def read_settings(path: Path | None, load_config: Callable[[Path | None], Config]) -> KafkaSettings:
    """The settings in `path`, of either kind; without one those of the tallykeep.yaml that the environment names.

    Raises: ConfigError with every mistake.
    """
    if path is None or _is_tallykeep_yaml(path):
        found: KafkaSettings = load_config(path).section(SECTION)
        return found
    return load({PROGRAM: KafkaSettings}, {}, path, expander(os.environ)).section(PROGRAM)  # type: ignore[no-any-return]


def has_file(path: Path | None) -> bool:
    """Whether there is a file to read at all."""
    return path is not None or bool(os.environ.get(CONFIG_VARIABLE))


def expander(variables: Mapping[str, str]) -> Callable[[str], str]:
    """What puts variables into a text. It raises ValueError for one that is not set and has no default."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        found = variables.get(name) or default
        if found is None:
            raise ValueError(f"the variable {name} is not set; set it, or write ${{{name}:-default}}")
        return found

    return lambda text: _VARIABLE.sub(value, text)


def _is_tallykeep_yaml(path: Path) -> bool:
    try:
        root = read_file(path)
    except ConfigError as error:
        raise Unparsable(*error.problems) from None
    if root is None or root.kind != "mapping":
        raise Missing(f"{path}: says nothing; a backup needs backup_id, source and storage.")
    return any(name == SECTION for name, _ in root.pairs())
