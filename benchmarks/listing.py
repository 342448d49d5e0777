"""Listings: 20,000 S3 objects against boto3's paginator, 100,000 files against pathlib.rglob and bare os.scandir.

Both sides list the same objects of the same server (SeaweedFS, on this machine) and the same files, in turns, in
this process; each looks at every key, size and time. CPU is this process's own, with all its threads.

python -m benchmarks.listing [--rounds 3] [--objects 20000] [--files 100000] [--json]
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from benchmarks.support import Report, parser
from botocore.config import Config

from tallykeep.demo.seaweedfs import SeaweedFS
from tallykeep.storage.local import LocalStore
from tallykeep.storage.s3 import S3Settings
from tallykeep.storage.store import Store

LEVELS = ((0, 0.6), (1, 0.25), (2, 0.12), (9, 0.03))  # how a replica's files spread over its levels
WRITERS = 64


@dataclass
class Taken:
    """What each round of one side took."""

    wall: list[float] = field(default_factory=list)  # seconds
    cpu: list[float] = field(default_factory=list)  # seconds


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--objects", type=int, default=20_000)
    options.add_argument("--files", type=int, default=100_000)
    arguments = options.parse_args()
    report = Report("Listings")
    with TemporaryDirectory() as folder:
        cloud(report, Path(folder), arguments.objects, arguments.rounds)
        local(report, Path(folder), arguments.files, arguments.rounds)
    report.finish(arguments)


def cloud(report: Report, folder: Path, count: int, rounds: int) -> None:
    """S3: ours against boto3."""
    with SeaweedFS(folder / "seaweedfs") as server:
        server.create_bucket("replica")
        settings = server.settings("replica", "db")
        store = server.s3_store("replica", "db")
        asyncio.run(fill(store, count))
        sides = {"ours": lambda: listed(store), "boto3": paginated(settings)}
        taken = measured(sides, count, rounds)
    what = f"list {count:,} S3 objects"
    report.compare(f"{what}, wall", taken["ours"].wall, taken["boto3"].wall, against="boto3", goal=8)
    report.compare(f"{what}, CPU", taken["ours"].cpu, taken["boto3"].cpu, against="boto3", goal=20)


def local(report: Report, folder: Path, count: int, rounds: int) -> None:
    """A folder: ours against pathlib, and against the least that can be done."""
    root = folder / "replica"
    for level, keys in names(count):
        (root / level).mkdir(parents=True)
        for key in keys:
            (root / level / key).touch()
    store = LocalStore(root)
    sides = {"ours": lambda: listed(store), "rglob": lambda: globbed(root), "scandir": lambda: scanned(root)}
    taken = measured(sides, count, rounds)
    what = f"list {count:,} local files"
    report.compare(f"{what}, wall", taken["ours"].wall, taken["rglob"].wall, against="pathlib.rglob + stat", goal=3)
    report.compare(f"{what}, CPU", taken["ours"].cpu, taken["rglob"].cpu, against="pathlib.rglob + stat")
    least = "bare os.scandir + stat"
    report.compare(f"{what}, wall", taken["ours"].wall, taken["scandir"].wall, against=least, goal=1 / 1.5)
    report.compare(f"{what}, CPU", taken["ours"].cpu, taken["scandir"].cpu, against=least)


def measured(sides: dict[str, Callable[[], int]], count: int, rounds: int) -> dict[str, Taken]:
    """Each side in turn, `rounds` times, after one round that is not counted."""
    taken = {name: Taken() for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            found = side()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if found != count:
                raise SystemExit(f"{name} found {found} of {count}")
            if number:
                taken[name].wall.append(wall)
                taken[name].cpu.append(cpu)
    return taken


def names(count: int) -> list[tuple[str, list[str]]]:
    """Folders of a replica and the names in them."""
    sizes = [round(count * share) for _, share in LEVELS]
    sizes[0] += count - sum(sizes)
    return [
        (f"{level:04x}", [f"{number:016x}-{number:016x}.ltx" for number in range(1, size + 1)])
        for (level, _), size in zip(LEVELS, sizes, strict=True)
    ]


async def fill(store: Store, count: int) -> None:
    """Put `count` small objects."""
    keys = [f"{level}/{name}" for level, found in names(count) for name in found]
    for start in range(0, len(keys), WRITERS):
        await asyncio.gather(*(store.replace(key, b"x") for key in keys[start : start + WRITERS]))


def listed(store: Store) -> int:
    """Ours."""

    async def run() -> int:
        found = 0
        async for page in store.list():
            found += len([(info.key, info.size, info.modified) for info in page])
        return found

    return asyncio.run(run())


def paginated(settings: S3Settings) -> Callable[[], int]:
    """boto3, as its documentation lists a bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )

    def run() -> int:
        found = 0
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=settings.bucket, Prefix="db/"):
            found += len([(info["Key"], info["Size"], info["LastModified"]) for info in page["Contents"]])
        return found

    return run


def globbed(root: Path) -> int:
    """pathlib.rglob with stat."""
    found = 0
    for path in root.rglob("*.ltx"):
        status = path.stat()
        found += len([(path.name, status.st_size, status.st_mtime)])
    return found


def scanned(root: Path) -> int:
    """os.scandir with stat: nothing built, nothing sorted."""
    found, folders = 0, [str(root)]
    while folders:
        with os.scandir(folders.pop()) as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    status = entry.stat(follow_symlinks=False)
                    found += len([(entry.name, status.st_size, status.st_mtime)])
    return found


if __name__ == "__main__":
    main()
