from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from tests.support.toy import ToySettings

from tallykeep.config.load import PROGRAM, load
from tallykeep.config.program import ProgramSettings
from tallykeep.errors import ConfigError

SECTIONS = {PROGRAM: ProgramSettings, "toy": ToySettings}
NAMES = st.sampled_from(
    ["METRICS_PORT", "METRICS_PORT_FILE", "TALLYKEEP_LOG_LEVEL", "TALLYKEEP_LOG_LEVL", "TOY_FILE", "TOY_INTERVAL"]
)
TEXT = st.characters(exclude_characters="\0", exclude_categories=["Cs"])  # what an environment can hold
VALUES = st.one_of(st.text(TEXT), st.sampled_from(["1", "30s", "info"]))


@given(st.dictionaries(NAMES, VALUES))
def test_any_environment_is_settings_or_a_config_error(environ: dict[str, str]) -> None:
    """Whatever stands in variables, loading gives settings or one ConfigError with a line for each mistake."""
    try:
        config = load(SECTIONS, environ)
    except ConfigError as error:
        assert error.problems
        assert error.exit_status == 2
    else:
        assert 0 <= config.section(PROGRAM).metrics_port <= 65535


@given(st.one_of(st.text(), st.text("abc:-[]{}&*!|>'\"%@ \n#,?~<"), st.binary()))
def test_any_file_is_settings_or_a_config_error(content: str | bytes) -> None:
    """Whatever bytes tallykeep.yaml holds, loading gives settings or a ConfigError: never another exception."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tallykeep.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        try:
            load(SECTIONS, {}, path)
        except ConfigError as error:
            assert error.problems


@given(st.text(TEXT, min_size=6))
def test_a_secret_is_never_told(text: str) -> None:
    """No repr, entry or mistake holds the text of a secret."""
    config = load(SECTIONS, {"TOY_PASSWORD": text})
    settings = config.section("toy")
    assert settings.password.reveal() == text
    told = repr(settings) + repr([entry for entry in config.entries if entry.key == "toy.password"])
    assert repr(text)[1:-1] not in re.sub(r"toy\.password|TOY_PASSWORD|password", "", told)


@given(st.integers(0, 65535))
def test_environment_and_file_are_read_alike(port: int) -> None:
    """The same text gives the same value from a variable and from the file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tallykeep.yaml"
        path.write_text(f"metrics_port: {port}\n")
        assert load(SECTIONS, {}, path).sections == load(SECTIONS, {"METRICS_PORT": str(port)}).sections
