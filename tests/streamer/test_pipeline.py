"""What a record keeps in memory on its path."""

import asyncio
import gc
from collections.abc import Sequence

from msgspec.structs import replace

from streamer.deadline import Deadline
from streamer.slices import NEW_ROWS
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import BidRequest, DeadLetter, EncodedRequest, Header, Origin, Record
from tests.streamer.rollout.switching import Worker, loaded


class SlowAnswers:
    """Brokers that acknowledge no answer before `acknowledge` is set."""

    def __init__(self, worker: Worker) -> None:
        self.acknowledge, self.published = asyncio.Event(), asyncio.Event()
        self._publish = worker.publish

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        self.published.set()
        await self.acknowledge.wait()
        await self._publish(origin, key, value, headers)


def held_rows() -> list[object]:
    gc.collect()
    return [held for held in gc.get_objects() if isinstance(held, BidRequest | EncodedRequest)]


@virtual
async def test_a_record_that_waits_for_its_acknowledgement_keeps_no_rows() -> None:
    """`max_unacknowledged_bytes` counts raw records; the rows of 300 candidates are larger."""
    worker = Worker(VirtualServers([loaded(1)]))
    answers = SlowAnswers(worker)
    worker.publish = answers.publish  # type: ignore[method-assign]
    await worker.start()
    others = {id(row) for row in held_rows()}  # modules of tests have some
    worker.send(1)
    await answers.published.wait()
    await asyncio.sleep(1.0)  # of the virtual clock
    assert [type(row) for row in held_rows() if id(row) not in others] == []
    answers.acknowledge.set()
    await worker.settle()


@virtual
async def test_a_record_that_cannot_be_read_is_dead_lettered_with_its_position() -> None:
    worker, letters = Worker(VirtualServers([loaded(1)])), list[DeadLetter]()

    async def dead_letter(letter: DeadLetter) -> None:
        letters.append(letter)

    worker.dead_letter = dead_letter  # type: ignore[method-assign]
    await worker.start()
    origin, now = Origin("requests", 3, 17), worker.loop.time()
    unreadable = "TooLargeError: decompresses to more than 33554432 bytes"
    await worker.pipeline.answer(
        Record(None, None, (), origin, 5, Deadline.after(now, 30.0), now, unreadable=unreadable)
    )
    assert letters == [DeadLetter(None, None, (), origin, 5, "read", unreadable)]
    assert (worker.answered_count, worker.finished[17]) == (1, 1)


@virtual
async def test_a_reason_quotes_only_the_beginning_of_an_unknown_model() -> None:
    worker = Worker(VirtualServers([loaded(1)]))
    await worker.start()
    origin, now = Origin("requests", 3, 17), worker.loop.time()
    value = b'{"request_id": "r", "model": "' + b"x" * 500_000 + b'", "user": {}, "candidates": [{"ad_id": "a"}]}'
    await worker.pipeline.answer(Record(None, value, (), origin, 5, Deadline.after(now, 30.0), now))
    (answer,) = worker.answers[17]
    assert answer["reason"] == f"model: '{'x' * 59} is not served here; 'ctr'"


def _new_ads(worker: Worker, number: int, headers: tuple[Header, ...] = ()) -> Record:
    """A record whose encoding needs slices."""
    rows = b",".join(b'{"ad_id":"a%d"}' % (i + 1000 * number) for i in range(2 * NEW_ROWS))
    value = b'{"request_id":"r%d","user":{},"context":{},"candidates":[%s]}' % (number, rows)
    now = worker.loop.time()
    return Record(b"u1", value, headers, Origin("requests", 0, number), 5, Deadline.after(now, 60_000.0), now)


@virtual
async def test_the_times_of_a_large_request_that_waits_for_its_turn_add_up() -> None:
    worker = Worker(VirtualServers([loaded(1)]), cache=False)
    await worker.start()
    await worker.pipeline.large.acquire()
    answering = asyncio.create_task(worker.pipeline.answer(_new_ads(worker, 0)))
    await asyncio.sleep(1.0)  # of the virtual clock
    worker.pipeline.large.release()
    await answering
    ms = worker.answers[0][0]["ms"]
    assert ms["encode"] == 1000.0, "the wait is part of the encoding"
    assert ms["decode"] + ms["encode"] + ms["queue"] + ms["predict"] <= ms["total"] + 0.01


@virtual
async def test_large_requests_wait_for_their_turn_as_bytes() -> None:
    """No bound counts their documents. Two records are so large that they have turns for their decoding, too."""
    worker = Worker(VirtualServers([loaded(1)]), cache=False)
    await worker.start()
    others = {id(row) for row in held_rows()}
    await worker.pipeline.large.acquire()
    records = [_new_ads(worker, number) for number in range(3)]
    records[:2] = [replace(record, value=(record.value or b"") + b" " * 2**18) for record in records[:2]]
    answering = [asyncio.create_task(worker.pipeline.answer(record)) for record in records]
    await asyncio.sleep(1.0)  # of the virtual clock
    most = sum(id(row) not in others for row in held_rows())
    assert most == 0
    worker.pipeline.large.release()
    for _ in range(8):
        await asyncio.sleep(0)
        most = max(most, sum(isinstance(row, BidRequest) and id(row) not in others for row in held_rows()))
    await asyncio.gather(*answering)
    assert most == 1
    assert [worker.answers[number][0]["status"] for number in range(3)] == ["ok"] * 3


@virtual
async def test_a_large_record_that_expires_while_it_waits_is_not_parsed() -> None:
    worker = Worker(VirtualServers([loaded(1)]), cache=False)
    await worker.start()
    headers = (("request_id", b"r1"), ("deadline_ms", b"50"))
    record = replace(_new_ads(worker, 1, headers), value=b"not JSON" * 2**16)
    await worker.pipeline.large.acquire()
    answering = asyncio.create_task(worker.pipeline.answer(record))
    await asyncio.sleep(1.0)  # of the virtual clock
    worker.pipeline.large.release()
    await answering
    assert worker.answers[1][0]["status"] == "expired", "it would be invalid if it were parsed"
