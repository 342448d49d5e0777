"""The alert rules and the Prometheus configuration we ship are accepted by Prometheus."""

from __future__ import annotations

import subprocess

import pytest
from tests.support.documents import ROOT
from tests.support.servers import need

from tallykeep.runtime.processes import find_program

PROMETHEUS = ROOT / "deploy/prometheus"

pytestmark = pytest.mark.server


def promtool(*args: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in the folder of the files."""
    need("promtool", "install Debian's package prometheus")
    program = find_program("promtool")
    assert program is not None
    return subprocess.run([program, *args], cwd=PROMETHEUS, capture_output=True, text=True, check=False)


def test_promtool_accepts_the_alert_rules() -> None:
    """`promtool check rules` finds nothing wrong in any generated rule file."""
    files = sorted(path.name for path in PROMETHEUS.glob("*.rules.yml"))
    assert files
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", *files)
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_accepts_the_configuration() -> None:
    """`promtool check config` accepts prometheus.yml together with the rules it loads."""
    result = promtool("check", "config", "prometheus.yml")
    assert result.returncode == 0, result.stdout + result.stderr
