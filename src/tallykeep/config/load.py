"""Settings from their sources: every value read and checked, every mistake found in one go.

A variable wins over the same key in tallykeep.yaml, as the environment belongs to one place of deployment and the
file to all. A target is one whole: it is described by variables (then it is named default) or in the file, never
by both. `${VAR}` in tallykeep.yaml stands for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from tallykeep.config.model import DEFAULT_TARGET, Group, Setting, declared
from tallykeep.config.sources import Environment, Expand, Given, Node, did_you_mean, read_file
from tallykeep.errors import ConfigError

T = TypeVar("T")

PROGRAM = "tallykeep"  # the section whose keys stand at the top of the file


class Entry(NamedTuple):
    """One setting as it stands, for `config show`."""

    key: str
    value: str  # **** for a secret
    origin: str  # default, a variable, or file and line


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of every section, and where each came from."""

    sections: Mapping[str, Any]
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]

    def section(self, name: str) -> Any:
        """The settings of one section: a value of the class it was loaded with."""
        return self.sections[name]

    def mentions(self, name: str) -> bool:
        """Whether anything in that section was set, if only to its default."""
        return any(entry.key.startswith(f"{name}.") and entry.origin != "default" for entry in self.entries)


def load(
    sections: Mapping[str, type[Any]], environ: Mapping[str, str], path: Path | None = None, expand: Expand = str
) -> Config:
    """Every section's settings, from variables and, where `path` is given, from that file, its values expanded.

    Raises: ConfigError with a line for each mistake.
    """
    loader = _Loader(Environment(environ))
    root = None if path is None else read_file(path, expand)
    values = loader.sections(sections, root)
    variables = [name for cls in sections.values() for name, _ in variables_of(cls)]
    problems = [*loader.environment.problems, *loader.environment.unknown(variables), *loader.problems]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return Config(values, tuple(loader.entries), tuple(loader.warnings))


def variables_of(cls: type[Any]) -> Iterator[tuple[str, Setting]]:
    """The variables of a settings class, those of its groups and targets included."""
    for field in declared(cls).values():
        if isinstance(field, Group):
            yield from variables_of(field.cls)
        elif field.env:
            yield field.env, field


class _Loader:
    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.problems: list[str] = []
        self.entries: list[Entry] = []
        self.warnings: list[str] = []

    def sections(self, sections: Mapping[str, type[Any]], root: Node | None) -> dict[str, Any]:
        known = [*declared(sections[PROGRAM]), *sections] if PROGRAM in sections else list(sections)
        keys = self._keys(root, "", [key for key in known if key != PROGRAM])
        found: dict[str, Any] = {}
        for name, cls in sections.items():
            if name == PROGRAM:
                found[name] = self._section(cls, "", {k: n for k, n in keys.items() if k not in sections}, True)
            else:
                found[name] = self._section(cls, name, self._keys(keys.get(name), name, declared(cls)), True)
        return found

    def _keys(self, node: Node | None, key: str, known: Iterable[str]) -> dict[str, Node]:
        """The keys of a mapping; unknown and repeated ones are problems."""
        if node is None or node.kind == "nothing":
            return {}
        if node.kind != "mapping":
            self.problems.append(f"{node.where}: {key or 'the file'} is to be a list of `key: value` lines")
            return {}
        found: dict[str, Node] = {}
        for name, value in node.pairs():
            full = f"{key}.{name}" if key else name
            if name not in known:
                self.problems.append(f"{value.where}: {full} is not a known key{did_you_mean(name, known)}")
            elif name in found:
                self.problems.append(f"{value.where}: {full} stands twice, first at {found[name].where}")
            else:
                found[name] = value
        return found

    def _section(self, cls: type[T], key: str, nodes: Mapping[str, Node], env: bool, where: str = "") -> T:
        """A value of `cls`. With `env` its variables are asked for; `where` is its place in the file."""
        before = len(self.problems) + len(self.environment.problems)
        values: dict[str, object] = {}
        for name, field in declared(cls).items():
            full, node = f"{key}.{name}" if key else name, nodes.get(name)
            if isinstance(field, Setting):
                self._setting(field, full, node, env, name, values)
            elif field.several:
                values[name] = self._targets(field, full, node, env)
            else:
                inner = self._keys(node, full, declared(field.cls))
                values[name] = self._section(field.cls, full, inner, env, node.where if node else "")
        try:
            return cls(**values)
        except (ValueError, ConfigError) as error:
            if len(self.problems) + len(self.environment.problems) == before:
                self.problems.append(": ".join(filter(None, (where, key, str(error)))))
            return cast(T, None)  # never seen: load() raises

    def _setting(
        self, field: Setting, key: str, node: Node | None, env: bool, name: str, values: dict[str, object]
    ) -> None:
        if field.table:
            self._table(field, field.table, key, node, name, values)
            return
        given = self.environment.given(field.env) if env and field.env else None
        texts = [given] if given else self._texts(field, key, node)
        if not texts:
            self.entries.append(Entry(key, field.shown, "default"))
            return
        if field.several and given:
            texts = [Given(part.strip(), given.origin) for part in given.text.split(",") if part.strip()]
        parsed = [self._parsed(field, key, text) for text in texts]
        values[name] = tuple(parsed) if field.several else parsed[0]
        shown = "****" if field.secret else ", ".join(text.text for text in texts)
        self.entries.append(Entry(key, shown, texts[0].origin if texts else "default"))

    def _texts(self, field: Setting, key: str, node: Node | None) -> list[Given]:
        """What the file gives: one text, or for a list any number."""
        if node is None or node.kind == "nothing":
            return []
        nodes = node.items() if field.several and node.kind == "sequence" else [node]
        if any(item.kind in ("mapping", "sequence") for item in nodes):
            wanted = "a list of values" if field.several else "one value"
            self.problems.append(f"{node.where}: {key} is to be {wanted}: {field.allowed or 'text'}")
            return []
        return [text for item in nodes if item.kind == "scalar" and (text := self._text(key, item)).text]

    def _text(self, key: str, node: Node) -> Given:
        try:
            return Given(node.text, node.where)
        except ValueError as error:
            self.problems.append(f"{node.where}: {key}: {error}")
            return Given("", node.where)

    def _table(
        self, field: Setting, keys: Callable[[str], object], key: str, node: Node | None, name: str,
        values: dict[str, object],
    ) -> None:  # fmt: skip
        """Any keys with one value each."""
        if node is None or node.kind == "nothing":
            return
        if node.kind != "mapping" or any(item.kind != "scalar" for _, item in node.pairs()):
            self.problems.append(f"{node.where}: {key} is to be a list of `key: value` lines: {field.allowed}")
            return
        found: dict[object, object] = {}
        for word, item in node.pairs():
            given = self._text(f"{key}.{word}", item)
            try:
                found[keys(word)] = field.parse(given.text)
            except (ValueError, LookupError):
                self.problems.append(f"{item.where}: {key} has {word!r}: {given.text!r}; allowed is {field.allowed}")
            self.entries.append(Entry(f"{key}.{word}", given.text, given.origin))
        values[name] = found

    def _parsed(self, field: Setting, key: str, given: Given) -> object:
        try:
            return field.parse(given.text)
        except (ValueError, LookupError, ArithmeticError) as error:
            value = "****" if field.secret else repr(given.text)
            place = f"{given.origin}: {key}" if ":" in given.origin else given.origin
            detail = f"allowed is {field.allowed}" if field.allowed else "it cannot be used"
            if not field.secret and isinstance(error, ValueError) and not field.allowed:
                detail = str(error)
            self.problems.append(f"{place} is {value}: {detail}{_service_link(given)}")
            return None

    def _targets(self, group: Group, key: str, node: Node | None, env: bool) -> tuple[object, ...]:
        places: dict[str, str] = {}
        found = [self._target(group, key, item, places) for item in self._list(key, node)]
        variables = self._describing(group.cls) if env else []
        if not variables:
            return tuple(found)
        if DEFAULT_TARGET in places:
            self.problems.append(
                f"{places[DEFAULT_TARGET]}: {key} describes the target {DEFAULT_TARGET}, and so do the variables "
                f"{', '.join(variables)}: keep one of the two, or give the one in the file another name"
            )
            return tuple(found)
        return (self._section(group.cls, f"{key}[{DEFAULT_TARGET}]", {}, True), *found)

    def _target(self, group: Group, key: str, node: Node, places: dict[str, str]) -> object:
        keys = self._keys(node, key, declared(group.cls))
        name = keys["name"].text if "name" in keys and keys["name"].kind == "scalar" else DEFAULT_TARGET
        if name in places:
            self.problems.append(f"{node.where}: {key} has two named {name!r}, the first at {places[name]}: rename one")
        places.setdefault(name, node.where)
        return self._section(group.cls, f"{key}[{name}]", keys, False, node.where)

    def _list(self, key: str, node: Node | None) -> list[Node]:
        if node is None or node.kind == "nothing":
            return []
        if node.kind != "sequence":
            self.problems.append(f"{node.where}: {key} is to be a list: each entry begins with `- `")
            return []
        return node.items()

    def _describing(self, cls: type[Any]) -> list[str]:
        """The variables given that make the default target exist. Others alone are remarked on and left."""
        every = list(variables_of(cls))
        switches = [name for name, field in every if field.switch] or [name for name, _ in every]
        given = [name for name, field in every if self.environment.has(name)]
        if any(name in switches for name in given):
            return given
        idle = [name for name, field in every if name in given and not field.secret]
        if idle:
            verb = "has" if len(idle) == 1 else "have"
            self.warnings.append(f"{', '.join(idle)} {verb} no effect: none of {', '.join(switches)} is set")
        return []


def _service_link(given: Given) -> str:
    """Kubernetes gives NAME_PORT=tcp://... to containers beside a Service of that name: worth saying."""
    if not given.text.startswith("tcp://"):
        return ""
    return " (Kubernetes sets it for a Service of that name: put enableServiceLinks: false into the Pod's spec)"
