"""Headers are read once, forgotten with their files, and what is wrong with one is a finding."""

from __future__ import annotations

from pathlib import Path

from tests.support.replicas import replica

from tallykeep.storage.local import LocalStore
from tallykeep.storage.metered import MeteredStore, Request
from tallykeep.systems.litestream.findings import Findings
from tallykeep.systems.litestream.headers import Headers
from tallykeep.systems.litestream.inventory import Inventory, LtxFile
from tallykeep.systems.litestream.known import identity


async def listed(folder: Path) -> list[LtxFile]:
    inventory = Inventory()
    async for page in LocalStore(folder).list():
        inventory.add(page)
    return list(inventory)


async def test_each_header_is_read_once_and_forgotten_with_its_file() -> None:
    """A second reading of the same files asks for nothing; files no longer wanted are dropped."""
    seen: list[Request] = []
    store = MeteredStore(LocalStore(replica("healthy")), seen.append)
    files = (await listed(replica("healthy")))[:3]
    headers = Headers()
    await headers.read(store, files)
    await headers.read(store, files[1:])
    assert len(seen) == 3
    assert headers.of(files[0]) is None
    assert headers.created(files[1]) is not None
    await headers.read(store, files[:1], keep=True)
    assert headers.of(files[2]) is not None


async def test_a_header_that_contradicts_its_name_is_a_finding() -> None:
    """The file copied under another name is corrupt, seen from 100 bytes, and not read again."""
    seen: list[Request] = []
    store = MeteredStore(LocalStore(replica("renamed")), seen.append)
    findings = Findings()
    headers = Headers(findings)
    newest = max(await listed(replica("renamed")), key=lambda file: file.name.max)
    for _ in range(2):
        await headers.read(store, [newest])
    assert findings.corrupt == {identity(newest): "header_name_mismatch"}
    assert headers.created(newest) is None
    assert len(seen) == 1


async def test_what_vanished_or_is_no_ltx_file(tmp_path: Path) -> None:
    """A file that is gone has no header and is no finding; one of other bytes is corrupt; an empty one is not read."""
    (tmp_path / "0000").mkdir()
    for txid, data in ((1, b"x" * 200), (2, b""), (3, b"x" * 200)):
        (tmp_path / "0000" / f"{txid:016x}-{txid:016x}.ltx").write_bytes(data)
    files = await listed(tmp_path)
    (tmp_path / files[2].key).unlink()
    findings = Findings()
    headers = Headers(findings)
    await headers.read(LocalStore(tmp_path), files)
    assert findings.corrupt == {identity(files[0]): "bad_magic"}
    assert [headers.of(file) for file in files] == [None, None, None]
