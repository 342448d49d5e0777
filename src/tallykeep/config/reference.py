"""docs/reference/settings.md, from the settings as they are declared. Pure, and the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tallykeep.config.load import PROGRAM
from tallykeep.config.model import Group, Setting, declared

_INTRODUCTION = """\
# Settings

Generated from the declarations; `make docs` writes this page.

Settings come from variables and from `tallykeep.yaml` (`--config FILE`, or `TALLYKEEP_CONFIG`). A variable wins over
the same key in the file. Every variable may be given as `NAME_FILE` instead: the path of a file that holds the value.
Giving both is an error, and an empty value counts as not set. A list of targets is written in the file; the variables
beside it describe the target named `default`, which then may not stand in the file as well.

Unknown keys, unknown `TALLYKEEP_*` variables and values that cannot be used end the start with exit status 2 and one
line for each of them. `tallykeep config validate` finds them without starting anything; `tallykeep config show` lists
every setting, its value and where it came from."""

_HEAD = "| Key | Variable | Default | Allowed | Meaning |\n|---|---|---|---|---|"


def settings_page(sections: Mapping[str, type[Any]]) -> str:
    """The page in Markdown, ending in a line feed."""
    parts = [_INTRODUCTION]
    for name, cls in sections.items():
        key = "" if name == PROGRAM else name
        parts.extend(_section(cls, key, "Top of the file" if not key else f"`{key}`", 2))
    return "\n\n".join(parts) + "\n"


def _section(cls: type[Any], key: str, title: str, depth: int) -> Iterator[str]:
    fields = declared(cls)
    yield f"{'#' * depth} {title}"
    if cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("):
        yield " ".join(cls.__doc__.split())
    rows = [_row(name, field) for name, field in fields.items() if isinstance(field, Setting)]
    if rows:
        yield "\n".join((_HEAD, *rows))
    for name, field in fields.items():
        if isinstance(field, Group):
            inner = f"{key}.{name}" if key else name
            yield from _group(field, inner, depth + 1)


def _group(group: Group, key: str, depth: int) -> Iterator[str]:
    title = f"`{key}`" + (": a list" if group.several else "")
    section = _section(group.cls, key, title, depth)
    yield next(section)
    yield group.help
    yield from section


def _row(name: str, field: Setting) -> str:
    secret = " A secret: never shown." if field.secret else ""
    allowed = ("a list of: " if field.several else "") + (field.allowed or "text")
    variable = f"`{field.env}`" if field.env else ""
    default = f"`{field.shown}`" if field.shown else ""
    cells = (f"`{name}`", variable, default, allowed, field.help + secret)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
