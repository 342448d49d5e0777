"""Where settings come from: variables, files named by NAME_FILE variables, and tallykeep.yaml.

This module finds texts and says where each stood. It does not know what they mean (load.py does), and it never
stops at the first mistake: problems are gathered, so that one start shows all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from tallykeep.errors import ConfigError

Expand = Callable[[str], str]

CONFIG_VARIABLE = "TALLYKEEP_CONFIG"
_OWN = "TALLYKEEP_"
# What Kubernetes puts into every container for a Service named tallykeep or tallykeep-*: not a typing error.
_SERVICE_LINK = re.compile(r"TALLYKEEP(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


class Given(NamedTuple):
    """A value as it was written, and where."""

    text: str
    origin: str  # "S3_BUCKET", "S3_BUCKET_FILE", "tallykeep.yaml:12"


class Environment:
    """Variables. Each may be given as NAME, or as NAME_FILE: the path of a file that holds the value."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []

    def has(self, name: str) -> bool:
        """Is it given, either way? An empty text counts as not given: that is how compose files pass nothing on."""
        return bool(self._variables.get(name) or self._variables.get(f"{name}_FILE"))

    def given(self, name: str) -> Given | None:
        """The value of a variable, from itself or from its file; None where it is not given or cannot be read."""
        text, path = self._variables.get(name, ""), self._variables.get(f"{name}_FILE", "")
        if text and path:
            self.problems.append(f"{name} and {name}_FILE are both set: keep one of them")
            return None
        if not path:
            return Given(text, name) if text else None
        try:
            content = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            self.problems.append(f"{name}_FILE is {path!r}, which cannot be read: {reason}")
            return None
        return Given(content, f"{name}_FILE") if content else None

    def unknown(self, known: Iterable[str]) -> Iterator[str]:
        """A problem for each TALLYKEEP_* variable that is none of `known`."""
        names = {CONFIG_VARIABLE, *known}
        names |= {f"{name}_FILE" for name in names if name != CONFIG_VARIABLE}
        for name in sorted(self._variables):
            if not name.startswith(_OWN) or name in names or self._is_service_link(name):
                continue
            yield f"{name} is not a variable that tallykeep knows{did_you_mean(name, names)}"

    def _is_service_link(self, name: str) -> bool:
        return "KUBERNETES_SERVICE_HOST" in self._variables and bool(_SERVICE_LINK.fullmatch(name))


class Node:
    """A place in tallykeep.yaml. Scalars are the text as written: nothing is guessed to be a date or a number."""

    def __init__(self, raw: Any, file: str, expand: Expand = str) -> None:
        self._raw = raw
        self._file = file
        self._expand = expand

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self._file}:{self._raw.start_mark.line + 1}"

    @property
    def kind(self) -> str:
        """mapping, sequence, scalar, or nothing where the value was left out."""
        if self._raw.id == "scalar" and self._raw.tag == "tag:yaml.org,2002:null":
            return "nothing"
        return str(self._raw.id)

    @property
    def text(self) -> str:
        """The text of a scalar. Raises: ValueError where a variable in it is not set."""
        return self._expand(str(self._raw.value))

    def items(self) -> list[Node]:
        """The entries of a sequence."""
        return [Node(raw, self._file, self._expand) for raw in self._raw.value]

    def pairs(self) -> Iterator[tuple[str, Node]]:
        """Keys and values of a mapping, in their order, repetitions included."""
        for key, raw in self._raw.value:
            name = str(key.value) if key.id == "scalar" else f"({key.id})"
            yield name, Node(raw, self._file, self._expand)


def read_file(path: Path, expand: Expand = str) -> Node | None:
    """The root of a settings file, or None where it says nothing. `expand` is what becomes of each value's text.

    Raises: ConfigError where it cannot be read or is not YAML.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path.name}{line}: this is not YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise ConfigError(f"{path.name}: it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name}: this is not YAML: {str(error).splitlines()[0]}") from error
    return None if raw is None else Node(raw, path.name, expand)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" where something known is close, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
