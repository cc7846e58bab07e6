"""A producer that the sink has replaced, on fake clients."""

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber
from structlog import get_logger
from structlog.testing import capture_logs

from streamer.kafka.sink import Sink
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tasks import TaskOwner
from streamer.testing.virtual_loop import virtual
from streamer.types import Origin


class Client:
    """A producer whose messages and whose end fail with these errors."""

    def __init__(self, *, rejects: Exception | None = None, ends_with: Exception | None = None) -> None:
        self._rejects, self._ends_with = rejects, ends_with
        self.is_stopped = False

    async def start(self) -> None:
        pass

    async def send(self, *_: object, **__: object) -> "asyncio.Future[None]":
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._rejects is None:
            sent.set_result(None)
        else:
            sent.set_exception(self._rejects)
        return sent

    async def stop(self) -> None:
        self.is_stopped = True
        if self._ends_with is not None:
            raise self._ends_with


@pytest.mark.parametrize("error", [KafkaError("as told"), RuntimeError("the handler is closed"), OSError("reset")])
def test_the_error_of_a_replaced_producer_is_logged_and_ends_no_other_task(error: Exception) -> None:
    """uvloop raises errors of its own when a lost connection is closed."""

    @virtual
    async def run() -> None:
        broken = Client(rejects=OutOfOrderSequenceNumber(), ends_with=error)
        clients: list[Any] = [broken, Client()]
        async with TaskOwner().running() as tasks:
            sink = Sink(
                lambda _: cast(AIOKafkaProducer, clients.pop(0)), Settings().sink, Metrics(), get_logger(), tasks.spawn
            )
            await sink.start()
            await sink.publish(Origin("requests", 0, 0), b"k", b"answer", [])
            await asyncio.sleep(1.0)  # of the virtual clock
            assert broken.is_stopped
            await sink.stop()

    with capture_logs() as lines:
        run()
    assert [line["error"] for line in lines if line["event"] == "a replaced producer ended with an error"] == [
        repr(error)
    ]


def test_a_batch_limit_that_has_shrunk_grows_without_a_restart() -> None:
    made: list[int] = []

    @virtual
    async def run() -> None:
        clients: list[Any] = [Client(rejects=MessageSizeTooLargeError()), Client(), Client()]

        def new(size: int) -> AIOKafkaProducer:
            made.append(size)
            return cast(AIOKafkaProducer, clients[len(made) - 1])

        async with TaskOwner().running() as tasks:
            sink = Sink(new, Settings().sink, Metrics(), get_logger(), tasks.spawn)
            await sink.start()
            for _ in range(1001):
                await sink.publish(Origin("requests", 0, 0), b"k", b"answer", [("trace", b"1")])
            await asyncio.sleep(1.0)  # of the virtual clock
            assert clients[1].is_stopped
            await sink.publish(Origin("requests", 0, 0), b"k", b"answer", [])
            await sink.stop()

    run()
    assert made == [2**19, 2**18, 2**19]
