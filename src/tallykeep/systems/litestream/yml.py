"""litestream.yml, read the way Litestream reads it: which databases it replicates, and where to.

The text is expanded before it is YAML: $VAR, ${VAR} and $PID anywhere in it, also in comments. Values are taken as
written, so a key of 0123 stays 0123. What Litestream refuses is refused here with every reason at once; keys that
say how it replicates (intervals, levels, retention) are left alone. `dir` is scanned once, at start.
Source: Litestream 0.5.17, ParseConfig, NewDBFromConfig, NewDBsFromDirectoryConfig; Go, os.Expand.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError
from tallykeep.systems.litestream.targets import Target, credentials, meta_path, with_default_endpoint
from tallykeep.systems.litestream.urls import (
    FILE,
    OTHER_KINDS,
    S3,
    ReplicaUrl,
    clean,
    file_replica,
    masked,
    overridden,
    parse_replica,
    s3_replica,
)

_Node = Mapping[str, Any]

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\{)|([*#$@!?\-0-9])|(\w+))", re.ASCII)
_YES = frozenset({"y", "yes", "true", "on"})
_MAGIC = b"SQLite format 3\0"
_GLOBAL = ("access-key-id", "secret-access-key", "region", "bucket", "endpoint", "force-path-style", "skip-verify")


class _Text(yaml.SafeLoader):
    """YAML whose scalars are all text; merge keys work."""

    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile(r"^(?:<<)$"))]}  # noqa: RUF012 - PyYAML's


def read_targets(path: Path, environ: Mapping[str, str]) -> tuple[Target, ...]:
    """One target for each database that a litestream.yml names or finds, in its order, named by its path.

    Raises: ConfigError with a line for each mistake.
    """
    try:
        root = yaml.load(expand(path.read_text(), environ), Loader=_Text)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    databases = root.get("dbs") if isinstance(root, dict) else None
    if not isinstance(databases, list) or not databases:
        raise ConfigError(f"{path} has no dbs: nothing in it is replicated.")
    defaults = {key: root[key] for key in _GLOBAL if key in root}
    return _all(path, databases, defaults, environ)


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with its variables replaced as Go's os.Expand does it; unknown ones become nothing."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3] or match[4] or ""
        return str(os.getpid()) if name == "PID" else environ.get(name, "")

    return _VARIABLE.sub(value, text)


def _all(path: Path, databases: list[Any], defaults: _Node, environ: Mapping[str, str]) -> tuple[Target, ...]:
    found: dict[str, Target] = {}
    problems: list[str] = []
    for number, node in enumerate(databases, 1):
        try:
            for target in _targets(node, defaults, environ):
                if target.name in found:
                    raise ValueError(f"{target.name} stands twice")
                found[target.name] = target
        except (ValueError, OSError) as error:
            problems.append(f"{path}: database config #{number}: {error}")
    if problems:
        raise ConfigError(*problems)
    return tuple(found.values())


def _targets(node: object, defaults: _Node, environ: Mapping[str, str]) -> Iterator[Target]:
    if not isinstance(node, dict):
        raise _not_a_mapping()
    database, folder = _text(node, "path"), _text(node, "dir")
    if bool(database) == bool(folder):
        raise ValueError("give either path or dir")
    if _text(node, "meta-path") and _text(node, "meta-dir"):
        raise ValueError("give either meta-path or meta-dir")
    if database:
        if _text(node, "meta-dir"):
            raise ValueError("meta-dir can only be used with dir")
        yield _target(node, defaults, environ, home(database), "")
        return
    root = home(folder)
    if not _text(node, "pattern"):
        raise ValueError("pattern is required with dir")
    for file in _databases(root, _text(node, "pattern"), _flag(node, "recursive")):
        yield _target(node, defaults, environ, file, file.relative_to(root).as_posix())


def _target(node: _Node, defaults: _Node, environ: Mapping[str, str], database: Path, relative: str) -> Target:
    settings = {**defaults, **{key: value for key, value in _replica_node(node).items() if value != ""}}
    replica = _replica(settings)
    if relative:
        replica = replica.below(relative)
    keys = credentials(environ, _text(settings, "access-key-id"), Secret(_text(settings, "secret-access-key")))
    local = _meta(node, database, relative) / "ltx"
    return Target(str(database), local, database, with_default_endpoint(replica, environ), keys)


def _replica_node(node: _Node) -> _Node:
    one, many = node.get("replica"), node.get("replicas") or []
    if one and many:
        raise ValueError("give either replica or replicas")
    if not one and isinstance(many, list) and len(many) == 1:
        one = many[0]
    if not isinstance(one, dict):
        raise _not_a_mapping() if one else ValueError("exactly one replica is to be given")
    if isinstance(one.get("age"), dict) and any(one["age"].values()):
        raise ValueError("Litestream 0.5 does not encrypt with age")
    return one


def _replica(settings: _Node) -> ReplicaUrl:
    url, path = _text(settings, "url"), _text(settings, "path")
    if "://" in path:
        raise ValueError(f"path of a replica cannot be a URL: {masked(path)}")
    if url and path:
        raise ValueError("give either url or path of a replica")
    if url:
        return overridden(
            parse_replica(url), _text(settings, "endpoint"), _text(settings, "region"),
            _optional_flag(settings, "force-path-style"), _flag(settings, "skip-verify"),
        )  # fmt: skip
    kind = _text(settings, "type") or FILE
    if kind == FILE:
        if not path:
            raise ValueError("path of the file replica is missing")
        return file_replica(home(path))
    if kind in OTHER_KINDS:
        return ReplicaUrl(kind, f"{kind}://{_text(settings, 'bucket') or _text(settings, 'host')}/{clean(path)}")
    if kind != S3:
        raise ValueError(f"{kind!r} is not a type of replica")
    if not _text(settings, "bucket"):
        raise ValueError("bucket of the s3 replica is missing")
    return s3_replica(
        _text(settings, "bucket"), path, _text(settings, "endpoint"), _text(settings, "region"),
        _optional_flag(settings, "force-path-style"), _flag(settings, "skip-verify"),
    )  # fmt: skip


def _meta(node: _Node, database: Path, relative: str) -> Path:
    """Litestream's metadata directory of a database."""
    if directory := _text(node, "meta-dir"):
        return home(directory) / f"{relative}-litestream"
    if not (given := _text(node, "meta-path")):
        return meta_path(database)
    return meta_path(home(given) / relative) if relative else home(given)


def _databases(root: Path, pattern: str, recursive: bool) -> Iterator[Path]:
    """SQLite files below `root` whose name matches, in the order of a walk."""
    glob = pattern.replace("[^", "[!")
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(folders) if recursive else []
        for name in sorted(files):
            file = Path(folder, name)
            if fnmatch.fnmatchcase(name, glob) and _is_sqlite(file):
                yield file


def _is_sqlite(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def home(text: str) -> Path:
    """An absolute path: without the prefix of a connection string, ~ being the home directory."""
    return Path(re.sub(r"^sqlite3?://", "", text)).expanduser().absolute()


def _text(node: _Node, key: str) -> str:
    value = node.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is to be one value")  # noqa: TRY004 - told as every other mistake
    return "" if value in ("~", "null") else value


def _flag(node: _Node, key: str) -> bool:
    return _text(node, key).lower() in _YES


def _optional_flag(node: _Node, key: str) -> bool | None:
    return _flag(node, key) if _text(node, key) else None


def _not_a_mapping() -> ValueError:
    """What is said of a value that should be a mapping."""
    return ValueError("a database and its replica are to be lists of `key: value` lines")
