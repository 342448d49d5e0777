"""What the packs that were read mean for one backup: its files, one after another, against PostgreSQL's own manifest.

A page that fails although the server sent it was being written to at that moment, if it says that it was changed
between start and stop: recovery writes it anew from a full page image in WAL. It is counted, and is no damage.
Source: PostgreSQL, src/backend/backup/basebackup.c (verify_page_checksum).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from tallykeep.errors import IntegrityError, NotFound
from tallykeep.runtime.threads import in_thread
from tallykeep.systems.postgres.checksum import combined
from tallykeep.systems.postgres.control import PATH, Control
from tallykeep.systems.postgres.lsn import LSN
from tallykeep.systems.postgres.pagesum import first_block
from tallykeep.systems.postgres.repository.entries import BackupEntry
from tallykeep.systems.postgres.repository.files import BackupFile, Files
from tallykeep.systems.postgres.repository.repository import Repository
from tallykeep.systems.postgres.verifying.content import chunks_of, content_of
from tallykeep.systems.postgres.verifying.ledger import MOST_WRONG, Ledger
from tallykeep.systems.postgres.verifying.manifest import CRC32C, NAME, SHA, BackupManifest, Listed
from tallykeep.systems.postgres.verifying.packs import must_be_there
from tallykeep.systems.postgres.verifying.verdict import Problems


@dataclass(slots=True)
class Judged:
    """What was found of one backup's files."""

    problems: Problems = field(default_factory=Problems)
    broken: set[str] = field(default_factory=set)  # packs that count against it
    manifest: BackupManifest | None = None
    bytes: int = 0
    pages: int = 0
    torn: int = 0


async def listed(repository: Repository, entry: BackupEntry, problems: Problems) -> Files | None:
    """A backup's list of files; None where that is damaged or missing. Raises: StoreErrors."""
    try:
        return await repository.files(entry)
    except IntegrityError as error:
        problems.add(str(error))
    except NotFound as error:
        await must_be_there(repository.store)
        problems.add(str(error))
    return None


async def control_of(repository: Repository, files: Files) -> Control | None:
    """What pg_control says; None where it cannot be read, which its pack will tell. Raises: StoreErrors."""
    for file in files.files:
        if file.path == PATH:
            try:
                return Control.parse(await content_of(repository, file), file.path)
            except (IntegrityError, NotFound):
                return None
    return None


async def judge(entry: BackupEntry, files: Files, control: Control | None, ledger: Ledger) -> Judged:
    """Every file, by what is known of its chunks. Raises: StoreErrors."""
    found = Judged()
    judging = _Judging(entry, control, ledger, found)
    found.manifest = await _manifest(judging, files)
    await in_thread(judging.files, files)
    for file in judging.to_read:
        await _read(ledger.repository, file, found)
    return found


async def _manifest(judging: _Judging, files: Files) -> BackupManifest | None:
    for file in files.files:
        if file.path == NAME and judging.is_readable(file):
            try:
                return BackupManifest.parse(await content_of(judging.ledger.repository, file), NAME)
            except IntegrityError as error:
                judging.found.problems.add(str(error))
            except NotFound as error:  # it was there when its pack was read
                await must_be_there(judging.ledger.repository.store)
                judging.found.problems.add(str(error))
            return None
    if not any(file.path == NAME for file in files.files):
        judging.found.problems.add(f"{NAME}: is missing")
    return None


async def _read(repository: Repository, file: BackupFile, found: Judged) -> None:
    """Prove a file whose CRC-32C tells nothing, or not which chunk is wrong: ids, and SHA. Raises: StoreErrors."""
    said = found.manifest.files.get(file.path) if found.manifest else None
    algorithm = SHA.get(said.algorithm) if said else None
    hashed = hashlib.new(algorithm) if algorithm else None
    if hashed is None and repository.cipher is None:
        return  # ids were computed as packs were read
    try:
        async for chunk in chunks_of(repository, file):
            if hashed is not None:
                await in_thread(hashed.update, chunk)
    except IntegrityError as error:
        found.problems.add(f"{file.path}: {error}")
    except NotFound as error:  # it was there when its pack was read
        await must_be_there(repository.store)
        found.problems.add(f"{file.path}: {error}")
    else:
        if said is not None and hashed is not None and hashed.digest() != said.checksum:
            found.problems.add(f"{file.path}: its {said.algorithm} is not what PostgreSQL's manifest says")


class _Judging:
    """One backup."""

    def __init__(self, entry: BackupEntry, control: Control | None, ledger: Ledger, found: Judged) -> None:
        self.ledger = ledger
        self.found = found
        self.to_read: list[BackupFile] = []
        self._control = control if control is not None and control.checksums else None
        self._start, self._stop = LSN.parse(entry.start_lsn), LSN.parse(entry.stop_lsn)

    def is_readable(self, file: BackupFile) -> bool:
        """Whether all its chunks are right."""
        numbers = [self.ledger.number(id) for id in file.chunks]
        return all(number is not None and number[2] not in self.ledger.bad for number in numbers)

    def files(self, files: Files) -> None:
        """All of them. Blocks."""
        manifest = self.found.manifest
        missing = set(manifest.files) if manifest else set()
        for file in files.files:
            if file.kind == "file":
                missing.discard(file.path)
                self._file(file, manifest)
        for path in sorted(missing):
            self.found.problems.add(f"{path}: PostgreSQL's manifest lists it, and the backup does not have it")
        if self._control is not None and self.ledger.wrong_pages > MOST_WRONG:
            self.found.problems.add(f"more than {MOST_WRONG} pages do not have their checksums")

    def _file(self, file: BackupFile, manifest: BackupManifest | None) -> None:
        self.found.bytes += file.size
        chunks = list(self._chunks(file))
        if len(chunks) < len(file.chunks):
            return
        crc, size = 0, 0
        for number, length in chunks:
            crc, size = combined(crc, self.ledger.crcs[number], length), size + length
        if size != file.size:
            self.found.problems.add(
                f"{file.path}: its chunks have {size} bytes, and the list of files says {file.size}"
            )
        said = manifest.files.get(file.path) if manifest is not None else None
        if not self._compare(file, said, crc):
            self.to_read.append(file)
        self._pages(file, chunks)

    def _chunks(self, file: BackupFile) -> Iterator[tuple[int, int]]:
        """(number, bytes) of the chunks that are right; the others are told."""
        at = 0
        for position, id in enumerate(file.chunks):
            found = self.ledger.number(id)
            if found is None:
                self.found.problems.add(f"{file.path}: its chunk {position}, {id.hex()}, lies in no pack")
                return
            pack, in_pack, number = found
            length = pack.raw[in_pack]
            if number in self.ledger.bad:
                self.found.broken.add(pack.key)
                where = f"{file.path}, bytes {at} to {at + length - 1}"
                self.found.problems.add(f"{where}: {self.ledger.bad[number]}")
            else:
                if pack.key in self.ledger.broken:
                    self._broken(pack.key)
                yield number, length
            at += length

    def _broken(self, key: str) -> None:
        """A chunk is right although its object has changed: where that did not hit another chunk, it counts."""
        if key not in self.ledger.hit:
            self.found.broken.add(key)
            self.found.problems.add(self.ledger.broken[key])

    def _compare(self, file: BackupFile, said: Listed | None, crc: int) -> bool:
        """Whether the file's CRC-32C proves it."""
        if said is None:
            if self.found.manifest is not None and file.path != NAME:
                self.found.problems.add(f"{file.path}: PostgreSQL's manifest does not list it")
            return False
        if said.size != file.size:
            self.found.problems.add(f"{file.path}: has {file.size} bytes, and PostgreSQL's manifest says {said.size}")
        if said.algorithm not in (CRC32C, "", *SHA):
            self.found.problems.add(f"{file.path}: PostgreSQL's manifest has a {said.algorithm}, which is not known")
        if said.algorithm != CRC32C:
            return False
        if said.checksum != crc.to_bytes(4, "little"):
            self.found.problems.add(f"{file.path}: its CRC-32C is not what PostgreSQL's manifest says")
            return False
        return said.size == file.size

    def _pages(self, file: BackupFile, chunks: list[tuple[int, int]]) -> None:
        block = None if self._control is None else first_block(file.path, self._control)
        if block is None or self._control is None:
            return
        for number, length in chunks:
            count = length // self._control.page
            for wrong in self.ledger.wrong.get(number, ()):
                if not block <= wrong.block < block + count:
                    continue
                if self._start <= wrong.lsn <= self._stop:
                    self.found.torn += 1
                else:
                    self.found.problems.add(f"{file.path}, {wrong}; it was last changed at {wrong.lsn}")
            block += count
            self.found.pages += count
