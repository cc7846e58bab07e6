"""Patches of aiokafka. Each names its fault and the version that it was written for.

1. https://github.com/aio-libs/aiokafka/issues/1038 (open). `AIOKafkaConnection.send` treats only an OSError of `write`
   as a lost connection. uvloop raises a RuntimeError after it has closed the transport, until it has called
   `connection_lost`. aiokafka's background task for fetches or for metadata then dies, and nothing restarts it.
2. A record that cannot be read fails the fetches of all partitions, with an error of any class: see `record_batches`.
3. The producer cannot write a header whose name is not UTF-8. Other clients can, and the answer has the same headers.
4. A connection copies large replies several times: see `aiokafka_frames`.

The faults of the group membership are in `aiokafka_coordinator`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from aiokafka import conn
from aiokafka.conn import CloseReason
from aiokafka.consumer import consumer, fetcher
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import message_accumulator, producer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy

from streamer.kafka import aiokafka_frames
from streamer.kafka.aiokafka_coordinator import MemberCoordinator
from streamer.kafka.record_batches import Batches, FetchedRecords
from streamer.types import Header

AIOKAFKA_VERSION = "0.14"
"""A test fails when another minor version is installed: check the faults again, then raise or remove this."""


class _Connection(aiokafka_frames.FrameConnection):
    """A connection that reports a RuntimeError of `write` as a lost connection."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(f"connection to {self.host}:{self.port} is lost: {error}") from error


class _HeaderName(str):
    """A name whose surrogates are bytes that are not UTF-8, as `record_batches` reads them."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return str.encode(self, errors="surrogateescape")


def _named(headers: Sequence[Header]) -> list[Header]:
    return [(_HeaderName(name), value) for name, value in headers]


class _Builder(BatchBuilder):  # type: ignore[misc]
    """Begins a batch in Python with a message that aiokafka's compiled code cannot write."""

    def __init__(self, batch_size: int, compression_type: int, **options: Any) -> None:
        super().__init__(batch_size, compression_type, **options)
        is_transactional = options.get("is_transactional", 0)
        self._new = partial(_DefaultRecordBatchBuilderPy, 2, compression_type, is_transactional, -1, -1, 0, batch_size)

    def append(self, *, headers: Sequence[Header] = (), **message: Any) -> Any:
        try:
            return super().append(headers=headers, **message)
        except UnicodeEncodeError:
            if self.record_count():
                self.close()
                return None
        self._builder = self._new()
        return super().append(headers=_named(headers), **message)

    def _set_producer_state(self, *state: int, **named: int) -> None:
        self._builder.set_producer_state(*state, **named)


class _Size:
    @staticmethod
    def estimate_size_in_bytes(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> Any:
        try:
            return DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)
        except UnicodeEncodeError:
            return _DefaultRecordBatchBuilderPy.estimate_size_in_bytes(key, value, _named(headers))


def apply() -> None:
    """Makes aiokafka use these classes for all later clients; it has no setting for this."""
    aiokafka_frames.apply()
    conn.AIOKafkaConnection = _Connection
    consumer.GroupCoordinator = MemberCoordinator
    fetcher.MemoryRecords = Batches
    fetcher.PartitionRecords = FetchedRecords
    message_accumulator.BatchBuilder = _Builder
    producer.DefaultRecordBatchBuilder = _Size
