"""Frames of any size arrive whole, however the network cuts them, and a lost connection ends the wait for one."""

import asyncio
import struct
from collections.abc import Sequence

import pytest
from aiokafka.protocol.fetch import FetchResponse_v4
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.aiokafka_frames import FrameProtocol, reader_of

LARGE = 2**16
SIZES = st.one_of(st.integers(0, 9), st.integers(LARGE - 3, LARGE + 3), st.integers(LARGE, 4 * LARGE))


class Pausing(asyncio.Transport):
    """Writes to a protocol as a transport does, unless it is paused."""

    def __init__(self, protocol: FrameProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.is_paused = False
        protocol.connection_made(self)

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    async def write_all(self, data: bytes, cuts: Sequence[int]) -> None:
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            at = start
            while at < end:
                while self.is_paused:  # noqa: ASYNC110  a turn of the loop
                    await asyncio.sleep(0)
                buffer = self.protocol.get_buffer(-1)
                count = min(end - at, len(buffer))
                buffer[:count] = data[at : at + count]
                self.protocol.buffer_updated(count)
                at += count
            await asyncio.sleep(0)


def connected() -> tuple[FrameProtocol, Pausing]:
    loop = asyncio.get_running_loop()
    protocol = FrameProtocol(loop.create_future(), asyncio.StreamReader(limit=LARGE, loop=loop), loop=loop)
    return protocol, Pausing(protocol)


@given(st.data(), st.lists(SIZES, max_size=4))
def test_frames_arrive_whole(data: st.DataObject, sizes: list[int]) -> None:
    frames = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    sent = b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))

    async def run() -> None:
        protocol, transport = connected()
        writing = asyncio.create_task(transport.write_all(sent, cuts))
        assert [bytes(await protocol.frame()) for _ in frames] == frames
        await writing

    asyncio.run(run())


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize("sent", [0, 2, 4, 5, LARGE])
@pytest.mark.parametrize("is_early", [True, False])
async def test_a_lost_connection_ends_the_wait(error: Exception | None, sent: int, is_early: bool) -> None:
    protocol, transport = connected()
    await transport.write_all((struct.pack(">i", 2 * LARGE) + bytes(LARGE))[:sent], ())
    reading = asyncio.create_task(protocol.frame())
    if not is_early:
        for _ in range(3):
            await asyncio.sleep(0)
    protocol.connection_lost(error)
    with pytest.raises(EOFError if error is None else ConnectionResetError):
        await reading


async def test_a_closed_connection_ends_the_wait() -> None:
    protocol, transport = connected()
    await transport.write_all(struct.pack(">i", 2 * LARGE) + bytes(9), ())
    reading = asyncio.create_task(protocol.frame())
    await asyncio.sleep(0)
    protocol.eof_received()
    with pytest.raises(EOFError):
        await reading


@pytest.mark.parametrize("size", [0, 9, LARGE, LARGE + 1, 5 * LARGE])
def test_a_large_frame_is_decoded_as_a_small_one(size: int) -> None:
    batches = bytes(range(256)) * (size // 256) + bytes(size % 256)
    partitions = [(0, 0, 17, 16, [(5, 3)], batches), (1, 0, 3, 2, [], b"")]
    encoded = FetchResponse_v4.SCHEMA.encode((7, [("requests-é", partitions)]))
    found = FetchResponse_v4.SCHEMA.decode(reader_of(bytearray(encoded)))
    assert found == FetchResponse_v4.SCHEMA.decode(reader_of(encoded))
