"""How settings are declared: frozen dataclasses whose fields say their variable, meaning and limits.

    @dataclass(frozen=True, slots=True)
    class Database:
        name: str = setting("default", help="Name of the database in labels and messages.")
        local: Path | None = setting(None, env="LOCAL_LTX_DIR", switch=True, parse=PATH, help="...")

    @dataclass(frozen=True, slots=True)
    class LitestreamSettings:
        interval: float = setting("60", env="SCRAPE_INTERVAL_SECONDS", parse=duration(low=1), help="...")
        drill: Drill = group(Drill, help="...")
        databases: tuple[Database, ...] = targets(Database, help="...")

The key in tallykeep.yaml is the field's name. Every field has a default; a `__post_init__` that raises ValueError
refuses a combination, and the message is shown beside the key of the section.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast, overload

from tallykeep.config.parse import FLAG, TEXT, Parser, integer, number

T = TypeVar("T")
K = TypeVar("K")

DEFAULT_TARGET = "default"  # the target that variables describe
_KEY = "tallykeep"  # in a dataclass field's metadata


class Secret:
    """A text that is never shown. `reveal()` gives it to the one module that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return "****"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared value."""

    help: str
    parse: Callable[[str], object]
    allowed: str
    shown: str  # the default, as it would be written; empty where there is none
    env: str = ""
    secret: bool = False
    switch: bool = False
    several: bool = False  # a list in the file, comma-separated in the environment
    table: Callable[[str], object] | None = None  # reads the keys of a table; `parse` its values. In the file alone


@dataclass(frozen=True, slots=True)
class Group:
    """A section inside a section; with `several` a list of them, each with a unique `name`."""

    cls: type[Any]
    help: str
    several: bool = False


@overload
def setting(
    default: str, *, help: str, parse: Callable[[str], T], env: str = ..., secret: bool = ..., allowed: str = ...,
    switch: bool = ...,
) -> T: ...  # fmt: skip
@overload
def setting(
    default: T, *, help: str, parse: Callable[[str], T] | None = ..., env: str = ..., secret: bool = ...,
    allowed: str = ..., switch: bool = ...,
) -> T: ...  # fmt: skip
def setting(
    default: Any,
    *,
    help: str,
    parse: Callable[[str], Any] | None = None,
    env: str = "",
    secret: bool = False,
    allowed: str = "",
    switch: bool = False,
) -> Any:
    """A dataclass field that holds one value.

    `default` is the value, or its text ("60", "1h30m", "64MiB"), which `parse` reads and the docs show. An empty
    text in environment or file counts as not set. `env` is the variable, in a target that of the target named
    default. `switch`: giving this variable makes that target exist. `secret` values are never shown; parse
    them into `Secret`. `allowed` says what may stand there, where the parser does not say it itself.
    """
    read = parse or _parser_for(default)
    secret = secret or read is Secret
    shown = "" if default is None or secret else _shown(default)
    value = read(default) if isinstance(default, str) and parse and default else default
    limits = allowed or (read.allowed if isinstance(read, Parser) else "")
    declared = Setting(help, read, limits, shown, env, secret, switch)
    return dataclasses.field(default=value, metadata={_KEY: declared})


def several(
    *, help: str, parse: Callable[[str], T], default: tuple[T, ...] = (), env: str = "", allowed: str = ""
) -> tuple[T, ...]:
    """A dataclass field that holds a list of values: a list in the file, comma-separated in the environment."""
    limits = allowed or (parse.allowed if isinstance(parse, Parser) else "")
    declared = Setting(help, parse, limits, ", ".join(map(_shown, default)), env, several=True)
    return dataclasses.field(default=default, metadata={_KEY: declared})


def table(*, help: str, keys: Callable[[str], K], values: Callable[[str], T], allowed: str) -> Mapping[K, T]:
    """A dataclass field that holds a table of keys that anybody may choose, such as topics; in the file alone."""
    declared = Setting(help, values, allowed, "", table=keys)
    return dataclasses.field(default_factory=dict, metadata={_KEY: declared})


def group(cls: type[T], *, help: str) -> T:
    """A dataclass field that holds a section of its own."""
    return dataclasses.field(default_factory=cls, metadata={_KEY: Group(cls, help)})


def targets(cls: type[T], *, help: str) -> tuple[T, ...]:
    """A dataclass field that holds any number of `cls`: a list in the file; its variables describe the one named
    default. `cls` has a field `name`.
    """
    return cast("tuple[T, ...]", dataclasses.field(default=(), metadata={_KEY: Group(cls, help, several=True)}))


def declared(cls: type[Any]) -> Mapping[str, Setting | Group]:
    """What the fields of a settings class were declared as, by key.

    Raises: TypeError for a field that was declared otherwise: nothing would ever set it.
    """
    found: dict[str, Setting | Group] = {}
    for field in dataclasses.fields(cls):
        if _KEY not in field.metadata:
            raise TypeError(
                f"{cls.__name__}.{field.name} is not declared with setting(), several(), group() or targets()"
            )
        found[field.name] = field.metadata[_KEY]
    return found


def _parser_for(default: object) -> Callable[[str], object]:
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, int):
        return integer()
    return number() if isinstance(default, float) else TEXT


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
