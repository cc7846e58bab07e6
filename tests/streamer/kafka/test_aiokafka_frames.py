"""Frames of any size arrive whole, however the network cuts them, and a lost connection ends the wait for one."""

import asyncio
import struct
from io import BytesIO

import pytest
from aiokafka.protocol.fetch import FetchResponse_v4
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.aiokafka_frames import FrameProtocol, reader_of

LARGE = 2**17
SIZES = st.one_of(st.integers(0, 9), st.integers(LARGE - 3, LARGE + 3), st.integers(LARGE, 4 * LARGE))


def write(protocol: FrameProtocol, data: bytes) -> None:
    """Writes to a protocol as an event loop does."""
    while data:
        buffer = protocol.get_buffer(-1)
        count = min(len(data), len(buffer))
        buffer[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]


def connected() -> FrameProtocol:
    loop = asyncio.get_running_loop()
    protocol = FrameProtocol(loop.create_future(), asyncio.StreamReader(loop=loop), loop=loop)
    protocol.connection_made(asyncio.Transport())
    return protocol


@given(st.data(), st.lists(SIZES, max_size=4))
def test_frames_arrive_whole(data: st.DataObject, sizes: list[int]) -> None:
    frames = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    sent = b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))

    async def run() -> None:
        protocol = connected()
        reading = asyncio.gather(*[read(protocol) for _ in frames[:1]])
        for start, end in zip((0, *cuts), (*cuts, len(sent)), strict=True):
            await asyncio.sleep(0)
            write(protocol, sent[start:end])
        protocol.connection_lost(None)
        assert [*await reading, *[await read(protocol) for _ in frames[1:]]] == frames
        with pytest.raises(EOFError):
            await protocol.frame()

    asyncio.run(run())


async def read(protocol: FrameProtocol) -> bytes:
    return bytes(await protocol.frame())


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize("sent", [0, 2, 4, 5, LARGE])
@pytest.mark.parametrize("is_early", [True, False])
async def test_a_lost_connection_ends_the_wait(error: Exception | None, sent: int, is_early: bool) -> None:
    protocol = connected()
    write(protocol, (struct.pack(">i", 2 * LARGE) + bytes(LARGE))[:sent])
    reading = asyncio.create_task(protocol.frame())
    if not is_early:
        for _ in range(3):
            await asyncio.sleep(0)
    protocol.connection_lost(error)
    with pytest.raises(EOFError if error is None else ConnectionResetError):
        await reading


async def test_a_closed_connection_ends_the_wait() -> None:
    protocol = connected()
    write(protocol, struct.pack(">i", 2 * LARGE) + bytes(9))
    reading = asyncio.create_task(protocol.frame())
    await asyncio.sleep(0)
    protocol.eof_received()
    with pytest.raises(EOFError):
        await reading


async def test_a_negative_size_ends_the_connection() -> None:
    protocol = connected()
    write(protocol, struct.pack(">i", 3) + b"abc" + struct.pack(">i", -3))
    assert await protocol.frame() == b"abc"
    with pytest.raises(ValueError, match="a frame of -3 bytes"):
        await protocol.frame()


@pytest.mark.parametrize("size", [0, 9, LARGE, LARGE + 1, 5 * LARGE])
def test_a_large_frame_is_decoded_as_a_small_one(size: int) -> None:
    batches = bytes(range(256)) * (size // 256) + bytes(size % 256)
    partitions = [(0, 0, 17, 16, [(5, 3)], batches), (1, 0, 3, 2, [], b"")]
    encoded = FetchResponse_v4.SCHEMA.encode((7, [("requests-é", partitions)]))
    found = FetchResponse_v4.SCHEMA.decode(reader_of(memoryview(encoded)))
    assert found == FetchResponse_v4.SCHEMA.decode(BytesIO(encoded))
