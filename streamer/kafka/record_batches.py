"""Reads the records of a fetch. An unreadable position becomes a value with a reason.

aiokafka's reader raises errors of many classes without a position, and decompresses batches of any size. Here it reads
the usual batches only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import crc32c
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint_py

from streamer.kafka.decompression import decompress

MAX_BATCH_BYTES = 2**25
"""Largest decompressed batch. Kafka's producers make batches of about 1 MiB at most by default."""
MAX_RECORD_BYTES = 2**23
"""Largest record. The bounds of a worker are checked after a chunk of several records."""
MAX_HEADERS = 10_000
"""Most headers of one record. In memory, an empty header is 36 times as large as in its batch."""
# aiokafka's reader makes all headers of a record before they can be counted, so it reads smaller batches only.
_MAX_AIOKAFKA_BYTES = 2**20

_HEADER = DefaultRecordBase.HEADER_STRUCT
_CODEC_BYTE = DefaultRecordBase.ATTRIBUTES_OFFSET + 1
_CODEC = DefaultRecordBase.CODEC_MASK
_CHECKSUM = 4  # its place in the header; it is that of all bytes behind it

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass
class UnreadableRecord(ConsumerRecord):  # type: ignore[misc]  # aiokafka has no types
    """A position whose record will never be readable; it has no content."""

    reason: str = ""


@dataclass
class DamagedLog(UnreadableRecord):
    """The position from which nothing can be read now. Another replica may have the records."""


class Parsed(NamedTuple):
    """A record with the fields of aiokafka's; with a reason it has no content."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    reason: str | None = None
    checksum: None = None


class FetchedRecords(PartitionRecords):  # type: ignore[misc]
    """The records of one partition in the reply to a fetch. Unreadable ones raise nothing."""

    def __next__(self) -> ConsumerRecord:
        try:
            return super().__next__()
        except (StopIteration, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  an error of any class would fail the fetches of all partitions
            self._records_iterator = iter(())
            reason = _shown(error)
            if self._records.last is not None:
                reason += f"; the batch seems to have the offsets {self._records.last}"
            return _without_content(DamagedLog, self._tp, self.next_fetch_offset, -1, reason)

    def _consumer_record(self, tp: TopicPartition, record: Any) -> ConsumerRecord:
        reason = getattr(record, "reason", None)
        if reason is None:
            return super()._consumer_record(tp, record)
        return _without_content(UnreadableRecord, tp, record.offset, record.timestamp, reason)


class Batches(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches of one partition in the reply to a fetch."""

    last: str | None = None
    """The offsets of the last batch, as its header gives them."""

    def has_next(self) -> bool:
        """Whether there is a batch, or bytes that should be one."""
        # Brokers send at least one whole batch. aiokafka would pass over the first record of a partial one.
        return bool(super().has_next()) or (self._pos == 0 and self._remaining_bytes > 0)

    def next_batch(self, *_: int) -> Any:
        """The next batch.

        Raises:
            Exception: the bytes are no batch; the error is of no particular class.
        """
        data = self._next_slice
        if data is None:
            raise CorruptRecordException(f"a batch that is longer than its {self._remaining_bytes} bytes")
        self.last = None
        batch = super().next_batch()
        if not isinstance(batch, DefaultRecordBatch):
            return batch
        self.last = f"{batch.base_offset} to {batch.next_offset - 1}"
        return Batch(data, batch)


class Batch:
    """A batch with the attributes of aiokafka's, whose iteration raises nothing."""

    def __init__(self, data: memoryview, batch: Any) -> None:
        self._data = data
        self._batch = batch
        # Read several times for each batch, and a batch often has one record.
        self.base_offset, self.next_offset = batch.base_offset, batch.next_offset
        self.producer_id, self.is_control_batch = batch.producer_id, batch.is_control_batch
        self._header = _HEADER.unpack_from(data)
        if not 0 <= self.base_offset < self.next_offset:
            raise CorruptRecordException(f"a batch with the offsets {self.base_offset} to {self.next_offset - 1}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def validate_crc(self) -> bool:
        """Whether the checksum is right, by the CPU's own instruction."""
        return bool(crc32c.crc32c(self._data[DefaultRecordBase.ATTRIBUTES_OFFSET :]) == self._header[_CHECKSUM])

    def __iter__(self) -> Iterator[Any]:
        """Records whose offsets grow within those of the batch; unreadable ones have a reason."""
        after, end = self.base_offset, self.next_offset
        is_compacted = self._header[-1] != end - after
        records, reason = self._records(), ""
        while after < end:
            try:
                record = next(records, None)
                if record is not None and not after <= record.offset < (end if is_compacted else after + 1):
                    raise CorruptRecordException(f"a record with the offset {record.offset}")  # noqa: TRY301
            except MemoryError:
                raise  # The record is good.
            except Exception as error:  # noqa: BLE001  of zlib, cramjam, struct and others: none will end by a retry
                reason = _shown(error)
                break
            if record is None:
                return
            after = record.offset + 1
            if len(record.headers) > MAX_HEADERS:
                record = self._without(record.offset, f"{len(record.headers)} headers, more than {MAX_HEADERS}")
            yield record
        else:
            return
        for offset in range(after, end):
            yield self._without(offset, reason)

    def _records(self) -> Iterator[Any]:
        content: bytes | memoryview = self._data[_HEADER.size :]
        codec = self._data[_CODEC_BYTE] & _CODEC
        if codec:
            content = decompress(codec, bytes(content), MAX_BATCH_BYTES)
        after = self.base_offset
        if len(content) <= _MAX_AIOKAFKA_BYTES:
            try:
                for record in DefaultRecordBatch(self._uncompressed(content)) if codec else self._batch:
                    yield record
                    after = record.offset + 1
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001, S110  the records that it cannot read follow
                pass
            else:
                return
        yield from (record for record in self._parsed(memoryview(content)) if record.offset >= after)

    def _uncompressed(self, content: bytes | memoryview) -> bytes:
        header = bytearray(self._data[: _HEADER.size])
        header[_CODEC_BYTE] &= ~_CODEC
        return b"".join((header, content))

    def _parsed(self, content: memoryview) -> Iterator[Parsed]:
        """Reads each record by itself, so that one with damaged fields leaves the others readable."""
        at, after = 0, self.base_offset
        *_, first_timestamp, max_timestamp, _, _, _, count = self._header
        is_append_time = self._batch.timestamp_type == DefaultRecordBase.LOG_APPEND_TIME
        for _ in range(count):
            size, at = decode_varint_py(content, at)
            if not 0 < size <= len(content) - at:
                raise CorruptRecordException(f"a record of {size} bytes")
            try:
                if size > MAX_RECORD_BYTES:
                    raise ValueError(f"{size} bytes, more than {MAX_RECORD_BYTES}")  # noqa: TRY301
                age, delta, key, value, headers = record_fields(content[at : at + size])
            except (ValueError, IndexError) as error:
                yield self._without(after, _shown(error))
                after += 1
            else:
                timestamp = max_timestamp if is_append_time else first_timestamp + age
                yield Parsed(self.base_offset + delta, timestamp, self._batch.timestamp_type, key, value, headers)
                after = self.base_offset + delta + 1
            at += size

    def _without(self, offset: int, reason: str) -> Parsed:
        return Parsed(offset, self._batch.max_timestamp, self._batch.timestamp_type, reason=reason)


def record_fields(data: memoryview) -> tuple[int, int, bytes | None, bytes | None, Headers]:
    """Timestamp and offset relative to the batch, key, value and headers of one record.

    The bytes of a header's name that are not UTF-8 become surrogates (`surrogateescape`), so that none is lost.

    Raises:
        ValueError, IndexError: the fields do not fit into the record, or it has too many headers.
    """
    at = 1  # after the attributes

    def number() -> int:
        nonlocal at
        found, at = decode_varint_py(data, at)
        return int(found)

    def text() -> bytes | None:
        nonlocal at
        size = number()
        if size > len(data) - at:
            raise ValueError(f"a field of {size} bytes, {len(data) - at} are left")
        if size < 0:
            return None
        at += size
        return bytes(data[at - size : at])

    age, delta, key, value, count = number(), number(), text(), text(), number()
    if not 0 <= count <= MAX_HEADERS:
        raise ValueError(f"{count} headers, more than {MAX_HEADERS}" if count > 0 else f"{count} headers")
    headers = tuple(((text() or b"").decode(errors="surrogateescape"), text()) for _ in range(count))
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes after the last field")
    return age, delta, key, value, headers


def _without_content(
    kind: type[UnreadableRecord], tp: TopicPartition, offset: int, timestamp: int, reason: str
) -> UnreadableRecord:
    return kind(tp.topic, tp.partition, offset, timestamp, 0, None, None, None, -1, -1, (), reason)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
