"""`tallykeep litestream ltx FILE...`: decode and verify LTX files, and say what each holds.

A file that lies under the name of an LTX file is held against that name too. Files are read in chunks, so their
size does not matter. One line a file, or with --json one object a line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tallykeep.runtime.progress import Meter, progress
from tallykeep.systems.litestream.ltx.decoder import Decoder
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import Header
from tallykeep.systems.litestream.ltx.name import LtxName
from tallykeep.systems.litestream.ltx.pageset import PageSet
from tallykeep.units import format_bytes, format_timestamp

if TYPE_CHECKING:
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]

_WIDTH = len("header_name_mismatch")
_CHUNK = 4 << 20  # bytes
_SOUND, _UNSOUND, _USAGE, _UNKNOWN = 0, 1, 2, 3  # exit statuses


class Finding(NamedTuple):
    """What is known of one file after reading it."""

    path: Path
    reason: str  # why it is not sound; "" when it is
    message: str
    size: int  # bytes read
    header: Header | None  # as far as the file got: not to be trusted unless it is sound
    pages: PageSet
    missing: PageSet  # pages that a file from the first transaction on should hold

    @property
    def sound(self) -> bool:
        """Whole, and true to its name."""
        return not self.reason

    def as_json(self) -> dict[str, object]:
        """One flat object; fields of the header only where it could be read."""
        told: dict[str, object] = {
            "file": str(self.path),
            "sound": self.sound,
            "reason": self.reason or None,
            "message": self.message or None,
            "size": self.size,
            "pages": len(self.pages),
            "missing_pages": len(self.missing),
        }
        if self.header is None:
            return told
        header = self.header
        return told | {
            "min_txid": str(header.min_txid),
            "max_txid": str(header.max_txid),
            "timestamp": _moment(header),
            "page_size": header.page_size,
            "commit": header.commit,
            "wal_offset": header.wal_offset,
            "wal_size": header.wal_size,
            "wal_salts": [f"{header.wal_salt1:08x}", f"{header.wal_salt2:08x}"],
        }

    def as_line(self) -> str:
        """For people."""
        return f"{self.reason or 'sound':<{_WIDTH}}  {self.path}: {self.message or self._contents()}"

    def _contents(self) -> str:
        assert self.header is not None
        header = self.header
        holds = f"{len(self.pages)} of {header.commit} pages of {header.page_size} bytes"
        return f"{header.min_txid} to {header.max_txid}, {_moment(header)}, {holds}, {format_bytes(self.size)}"


def add_ltx(subparsers: SubParsers) -> None:
    """Add the command `ltx`."""
    parser = subparsers.add_parser(
        "ltx",
        help="decode and verify LTX files",
        description="Decode LTX files and verify their checksums, page frames and page index.",
        epilog="Exit status: 0 all files are sound; 1 one is not; 2 wrong usage; 3 one could not be read.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an LTX file")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.set_defaults(run=run_ltx)


def run_ltx(args: argparse.Namespace) -> int:
    """Inspect `args.files`; the exit status."""
    files: list[Path] = args.files
    if missing := [path for path in files if not path.is_file()]:
        for path in missing:
            sys.stderr.write(f"{path}: no such file\n")
        return _USAGE
    status, unsound = _SOUND, 0
    total = sum(path.stat().st_size for path in files)
    with progress("verifying", total=total, silent=args.json) as meter:
        for path in files:
            try:
                finding = inspect(path, meter)
            except OSError as error:
                sys.stderr.write(f"{path}: cannot be read: {error.strerror}\n")
                status = status or _UNKNOWN
                continue
            sys.stdout.write((json.dumps(finding.as_json()) if args.json else finding.as_line()) + "\n")
            unsound += not finding.sound
    if not args.json and len(files) > 1:
        sys.stdout.write(f"{len(files)} files, {unsound} not sound\n")
    return _UNSOUND if unsound else status


def inspect(path: Path, meter: Meter | None = None) -> Finding:
    """Read a file to its end, or to where it stops being one. Raises: OSError."""
    decoder = Decoder(_name(path))
    try:
        for chunk in _chunks(path):
            for _ in decoder.feed(chunk):
                pass
            if meter is not None:
                meter.advance(len(chunk))
        decoder.finish()
    except LtxError as error:
        return Finding(path, error.reason, str(error), decoder.size, decoder.header, decoder.pages, PageSet())
    header = decoder.header
    assert header is not None
    missing = header.is_snapshot and decoder.pages.missing(header.commit, header.page_size)
    if missing:
        message = f"a file from the first transaction on holds every page, but this one lacks {missing}"
        return Finding(path, "missing_pages", message, decoder.size, header, decoder.pages, missing)
    return Finding(path, "", "", decoder.size, header, decoder.pages, PageSet())


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _name(path: Path) -> LtxName | None:
    try:
        return LtxName.parse(path.name)
    except ValueError:
        return None


def _moment(header: Header) -> str:
    try:
        return format_timestamp(header.timestamp)
    except (ValueError, OverflowError, OSError):
        return f"{header.timestamp_ms} ms"
