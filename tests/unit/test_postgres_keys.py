"""The cipher and the recovery file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallykeep.cli.main import main
from tallykeep.errors import ConfigError, IntegrityError
from tallykeep.systems.postgres import keyfile
from tallykeep.systems.postgres.cipher import OVERHEAD, Cipher

_KEY = bytes(range(32))


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_is_sealed_opens_where_it_belongs(data: bytes, place: bytes) -> None:
    """Sealing and opening give the same bytes back, and add 28."""
    sealed = Cipher.from_key(_KEY).seal(data, place)
    assert len(sealed) == len(data) + OVERHEAD
    assert Cipher.from_key(_KEY).open(memoryview(sealed), place, "x") == data


def test_nothing_opens_that_was_changed_moved_cut_or_sealed_with_another_key() -> None:
    """Every flipped byte, every cut, another place and another key are an IntegrityError that names the file."""
    cipher = Cipher.from_key(_KEY)
    sealed = cipher.seal(b"some WAL", b"here")
    flipped = [sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :] for at in range(len(sealed))]
    for wrong in [*flipped, *(sealed[:at] for at in range(len(sealed)))]:
        with pytest.raises(IntegrityError, match="the file"):
            cipher.open(wrong, b"here", "the file")
    for other, place in ((cipher, b"there"), (Cipher.from_key(bytes(32)), b"here"), (cipher.derived("x"), b"here")):
        with pytest.raises(IntegrityError):
            other.open(sealed, place, "the file")


def test_subkeys_are_stable_and_their_own() -> None:
    """A purpose has the same key in every version of the program: what was written stays readable."""
    cipher = Cipher.from_key(_KEY)
    assert cipher.subkey("chunk ids") == cipher.subkey("chunk ids") != cipher.subkey("wal")
    assert cipher.subkey("wal").hex() == "60650b2d3f39f3ea0ab5ae9f21585d7587b372608f74f11aaee6b85172d73997"


@given(st.binary(min_size=32, max_size=32))
def test_a_key_survives_being_typed_off(key: bytes) -> None:
    """Lower case, blanks and lost dashes do no harm."""
    text = keyfile.to_text(key)
    assert keyfile.from_text(text, "x") == key
    assert keyfile.from_text("# note\n\n  " + text.lower() + " \n", "x") == key


def test_a_slip_is_told_and_the_key_is_not_shown() -> None:
    """One wrong letter anywhere is found, and no message holds the key."""
    text = keyfile.to_text(_KEY)
    start = len("tallykeep-key-1-")
    for at in range(start, len(text)):
        if text[at] == "-":
            continue
        wrong = text[:at] + ("B" if text[at] == "A" else "A") + text[at + 1 :]
        with pytest.raises(ConfigError) as told:
            keyfile.from_text(wrong, "TALLYKEEP_KEY")
        assert "TALLYKEEP_KEY" in str(told.value) and text[start + 8 : start + 20] not in str(told.value)
    with pytest.raises(ConfigError):
        keyfile.from_text("", "x")


def test_a_recovery_file_is_private_and_never_written_over(tmp_path: Path) -> None:
    """It is made once, with mode 600, and read back."""
    path = tmp_path / "recovery.key"
    key = keyfile.generate()
    keyfile.write(path, key)
    assert keyfile.read(path) == key and path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="cannot be made"):
        keyfile.write(path, bytes(32))
    assert keyfile.read(path) == key


@pytest.mark.parametrize("words", [[], ["-"]])
def test_a_key_is_printed_for_a_pipe(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`key` and `key -` print the key and nothing else, and make no file."""
    monkeypatch.chdir(tmp_path)
    assert main(["postgres", "key", *words]) == 0
    assert len(keyfile.from_text(capsys.readouterr().out, "printed")) == 32
    assert not list(tmp_path.iterdir())
