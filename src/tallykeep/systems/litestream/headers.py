"""Headers of the few LTX files whose contents matter to a listing: each read once, kept while it is listed.

A listing of an object store shows when a file was uploaded; only its header says of what moment the data is, and
where in the WAL it ends. A header that contradicts the file's name, or is none, is a finding like any of the sweep.
"""

from __future__ import annotations

from collections.abc import Iterable

from tallykeep.errors import NotFound
from tallykeep.storage.store import Store
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.inventory import LtxFile
from tallykeep.systems.litestream.known import Identity, identity
from tallykeep.systems.litestream.ltx.error import LtxError
from tallykeep.systems.litestream.ltx.header import HEADER_SIZE, Header


class Headers:
    """The headers read so far of one source's files."""

    def __init__(self, findings: Findings | None = None) -> None:
        """What is wrong with a header is put into `findings`."""
        self._findings = findings
        self._known: dict[Identity, Header] = {}

    async def read(self, store: Store, files: Iterable[LtxFile], *, keep: bool = False) -> None:
        """Read the headers of `files` that are not known yet. All others are forgotten, unless `keep`.

        A file that has vanished is left out. Raises: StoreError.
        """
        corrupt = self._findings.corrupt if self._findings is not None else {}
        wanted = {identity(file): file for file in files if not file.too_small}
        if not keep:
            self._known = {key: header for key, header in self._known.items() if key in wanted}
        for key, file in wanted.items():
            if key not in self._known and key not in corrupt and (header := await self._read(store, key, file)):
                self._known[key] = header

    def of(self, file: LtxFile | None) -> Header | None:
        """The header of `file`, if it was read."""
        return None if file is None else self._known.get(identity(file))

    def created(self, file: LtxFile | None) -> float | None:
        """Data time of `file` in Unix seconds, if its header was read."""
        header = self.of(file)
        return None if header is None else header.timestamp

    async def _read(self, store: Store, key: Identity, file: LtxFile) -> Header | None:
        try:
            header = Header.decode(await store.read_range(file.key, 0, HEADER_SIZE))
        except NotFound:
            return None
        except LtxError as error:
            self._found(key, error.reason)
            return None
        if header.name != file.name:
            self._found(key, "header_name_mismatch")
            return None
        return header

    def _found(self, key: Identity, reason: str) -> None:
        if self._findings is not None:
            self._findings.corrupt.setdefault(key, reason)
