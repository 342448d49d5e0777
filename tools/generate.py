"""Writes what is generated from the code: the reference pages, alert rules and the like. `--check` compares only.

python -m tools.generate            write what has changed
python -m tools.generate --check    exit with 1 and name what is out of step
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from tallykeep.cli.metrics import groups
from tallykeep.cli.sections import sections
from tallykeep.config.reference import settings_page
from tallykeep.exposition.reference import metrics_reference
from tallykeep.exposition.rules import alert_rules
from tallykeep.systems.litellm.role import role_sql
from tools.commands import commands_page

ROOT = Path(__file__).parents[1]
REFERENCE = "docs/reference"
RULES = "deploy/prometheus"


def generated() -> dict[str, str]:
    """Every generated file: its path in the repository and what it should say."""
    pages = {
        f"{REFERENCE}/metrics.md": metrics_reference(groups()),
        f"{REFERENCE}/settings.md": settings_page(sections()),
        f"{REFERENCE}/commands.md": commands_page(),
        "deploy/litellm/role.sql": role_sql(),
    }
    return pages | {f"{RULES}/{name}.rules.yml": alert_rules({name: families}) for name, families in groups().items()}


def main() -> int:
    """Write or compare; the exit status says whether they were in step."""
    parser = argparse.ArgumentParser(description="writes what is generated from the code")
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    changed = {path: text for path, text in generated().items() if _differs(ROOT / path, text)}
    for path, text in changed.items():
        if check:
            _show(path, text)
        else:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text, encoding="utf-8")
            print(f"docs: wrote {path}")
    if check and changed:
        print(f"out of step with the code: {', '.join(changed)}; run `make docs` and commit what it writes")
    return 1 if check and changed else 0


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != text


def _show(path: str, text: str) -> None:
    committed = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).exists() else ""
    lines = difflib.unified_diff(committed.splitlines(), text.splitlines(), path, "the code", lineterm="", n=1)
    print("\n".join(list(lines)[:40]))


if __name__ == "__main__":
    sys.exit(main())
