"""A real broker seen through a bad network: a proxy that knows Kafka's frames and spoils chosen answers."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from tests.support.accepting import accepting

from tallykeep.systems.kafka.brokers import Address, Brokers
from tallykeep.systems.kafka.connection import Security

How = Literal["reset", "cut", "flip", "trickle", "hang", "lose"]
_SIZE = struct.Struct(">i")
_HEAD = struct.Struct(">hhi")  # API key, version, correlation id


@dataclass(frozen=True)
class Fault:
    """What happens to answers to requests with that API key.

    reset: the connection ends before any of it; cut: in the middle of it; flip: a byte in its last quarter is another;
    trickle: it comes in small pieces; hang: it never comes; lose: the request itself never arrives.
    """

    how: How
    api_key: int
    at: int = 1  # the first that it happens to, counted from 1
    times: int = 1  # how many; 0: all from there on

    def strikes(self, api_key: int, number: int) -> bool:
        return api_key == self.api_key and number >= self.at and (not self.times or number < self.at + self.times)


@dataclass
class FaultyBroker:
    """Stands before the broker at `behind` for as long as the context lasts."""

    behind: Address
    faults: Sequence[Fault] = ()
    asked: list[tuple[int, bytes]] = field(default_factory=list)  # API key and body of what arrived, in order
    connections: int = 0
    struck: int = 0

    def __post_init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._listener = accepting(self._serve)
        self._struck = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.address: Address = await self._listener.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.__aexit__(None, None, None)

    async def until_struck(self) -> None:
        """Return when a request that a fault is for has arrived."""
        await asyncio.wait_for(self._struck.wait(), 60)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            upstream, downstream = await asyncio.open_connection(*self.behind)
        except OSError:
            writer.transport.abort()
            return
        spoilt: deque[Fault | None] = deque()  # for each answer that is awaited
        pumps = [
            asyncio.create_task(self._requests(reader, downstream, spoilt)),
            asyncio.create_task(self._answers(upstream, writer, spoilt)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            downstream.transport.abort()
            writer.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, spoilt: deque[Fault | None]
    ) -> None:
        while True:
            frame = await _frame(reader)
            key, _, _ = _HEAD.unpack_from(frame)
            (name,) = struct.unpack_from(">h", frame, _HEAD.size)
            self._counts[key] += 1
            fault = next((fault for fault in self.faults if fault.strikes(key, self._counts[key])), None)
            if fault is not None:
                self.struck += 1
                self._struck.set()
            if fault and fault.how == "lose":
                return
            self.asked.append((key, frame[_HEAD.size + 2 + max(name, 0) :]))
            spoilt.append(fault)
            to.write(_SIZE.pack(len(frame)) + frame)
            await to.drain()

    async def _answers(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, spoilt: deque[Fault | None]
    ) -> None:
        while True:
            frame = await _frame(reader)
            data, fault = bytearray(_SIZE.pack(len(frame)) + frame), spoilt.popleft()
            how = fault.how if fault else ""
            if how == "hang":
                await asyncio.Event().wait()
            if how == "reset":
                return
            if how == "flip":
                data[-max(len(frame) // 8, 1)] ^= 0x20
            await _send(to, data[: len(data) // 2] if how == "cut" else data, 64 if how == "trickle" else len(data))
            if how == "cut":
                return


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    return await reader.readexactly(size)


async def _send(to: asyncio.StreamWriter, data: bytearray, piece: int) -> None:
    for start in range(0, len(data), piece):
        to.write(data[start : start + piece])
        await to.drain()
        await asyncio.sleep(0)


class Through(Brokers):
    """Asks every broker through the faulty one."""

    def __init__(self, broker: FaultyBroker) -> None:
        super().__init__(Security())
        self._broker = broker
        self.answer_within = 0.0  # seconds; 0: what is asked for

    async def request(
        self, address: Address, lane: int, api_key: int, version: int, body: bytes | Sequence[bytes | memoryview],
        *, timeout: float = 60.0, check: Callable[[], None] | None = None,
    ) -> memoryview:  # fmt: skip
        within = self.answer_within or timeout
        return await super().request(self._broker.address, lane, api_key, version, body, timeout=within, check=check)
