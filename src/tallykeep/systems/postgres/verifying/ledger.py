"""What is known of every chunk of the packs that are read: numbered pack after pack, a few bytes for each.

A chunk that holds pages of relations is noted with the block that it begins with: a page's checksum takes in its
number. The same chunk may stand in several places, most often one of zeros. Memory: 16 bytes for each chunk, 32 MiB
for a TiB, and what is wrong, of which there is a limit.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tallykeep.systems.postgres.control import Control
from tallykeep.systems.postgres.pagesum import WrongPage, first_block
from tallykeep.systems.postgres.repository.files import Files
from tallykeep.systems.postgres.repository.pack import Pack
from tallykeep.systems.postgres.repository.repository import Repository

_NONE = -1
MOST_WRONG = 100_000  # pages that are remembered one by one


class Ledger:
    """Filled by the readers of packs, each for its own; read when they are done."""

    def __init__(self, repository: Repository, packs: Iterable[Pack]) -> None:
        self.repository = repository
        self.packs = list(packs)
        self.page = 0  # bytes of a page; 0: nobody asks for checksums of pages
        self.broken: dict[str, str] = {}  # what is wrong with an object as a whole, by the key of the pack
        self.missing: set[str] = set()  # keys of packs
        self.hit: set[str] = set()  # keys of packs of which single chunks are bad
        self.bad: dict[int, str] = {}  # what is wrong with a chunk, by its number
        self.wrong: dict[int, list[WrongPage]] = {}  # pages of a chunk
        self.wrong_pages = 0
        self._first: dict[str, int] = {}
        count = 0
        for pack in self.packs:
            self._first[pack.key] = count
            count += len(pack.stored)
        self.crcs = array("I", bytes(4 * count))  # CRC-32C of each chunk
        self._base = array("q", (_NONE,)) * count
        self._more: dict[int, set[int]] = defaultdict(set)

    @property
    def damaged(self) -> set[str]:
        """Keys of packs that are missing, or not as they were written, as a whole or in some of their chunks."""
        return self.broken.keys() | self.hit

    def first(self, pack: Pack) -> int:
        """The number of a pack's first chunk."""
        return self._first[pack.key]

    def number(self, id: bytes) -> tuple[Pack, int, int] | None:
        """The pack of a chunk, its number in it, and its number here; None where no pack holds it."""
        if id not in self.repository:
            return None
        pack, position = self.repository.place(id)
        return pack, position, self._first[pack.key] + position

    def note_pages(self, files: Files, control: Control) -> None:
        """Have the checksums of these files' pages compared. Blocks."""
        self.page = control.page
        for file in files.files:
            block = first_block(file.path, control) if file.kind == "file" else None
            for id in file.chunks if block is not None else ():
                assert block is not None
                found = self.number(id)
                if found is None:
                    break
                self._note(found[2], block)
                block += found[0].raw[found[1]] // control.page

    def blocks(self, number: int) -> Sequence[int]:
        """The blocks that a chunk begins with, wherever it stands in a relation."""
        base = self._base[number]
        return () if base == _NONE else (base, *self._more.get(number, ()))

    def note_wrong(self, number: int, pages: Sequence[WrongPage]) -> None:
        """Pages of a chunk do not have their checksums."""
        self.wrong_pages += len(pages)
        if self.wrong_pages <= MOST_WRONG:
            self.wrong[number] = [*self.wrong.get(number, ()), *pages]

    def _note(self, number: int, block: int) -> None:
        base = self._base[number]
        if base == _NONE:
            self._base[number] = block
        elif base != block:
            self._more[number].add(block)
