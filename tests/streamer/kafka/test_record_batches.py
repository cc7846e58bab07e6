"""Reading batches with damaged, hostile or unusual content: each position has one outcome, and nothing raises."""

import random
import struct
from collections.abc import Sequence
from typing import Any

import cramjam
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.default_records import DefaultRecordBase, _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.kafka import record_batches
from streamer.kafka.aiokafka_patches import _Builder
from streamer.kafka.decompression import TooLargeError, decompress
from streamer.kafka.record_batches import MAX_HEADERS, Batches, DamagedLog, FetchedRecords, UnreadableRecord

TOP = TopicPartition("requests", 3)
FIRST = 40
RECORDS = [(b"k%d" % i, b'{"request_id": "%d"}' % i, [("trace", b"\x01"), ("empty", None)]) for i in range(8)]
CODECS = range(5)
ENCODERS = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
NOT_UTF8 = ("tr\udcff", b"\x01")
HEADER = DefaultRecordBase.HEADER_STRUCT


def batch(records: Sequence[Any] = RECORDS, codec: int = 0, first: int = FIRST) -> bytearray:
    """A batch as a producer and a broker write it."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 2**40)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 1000 + number, key, value, headers)
    return placed(builder.build(), first)


def placed(data: bytearray, first: int = FIRST) -> bytearray:
    data[:8] = struct.pack(">q", first)
    return data


def with_crc(data: bytearray) -> bytearray:
    """The batch with a right checksum: its content is what its producer has written."""
    data[17:21] = struct.pack(">I", calc_crc32c(data[21:]))
    return data


def with_content(content: bytes, count: int, codec: int = 0) -> bytearray:
    data = bytearray(HEADER.size)
    size = HEADER.size + len(content) - 12
    HEADER.pack_into(data, 0, FIRST, size, 0, 2, 0, codec, count - 1, 1000, 1000, -1, -1, -1, count)
    return with_crc(data + content)


def read(data: bytes | bytearray, first: int = FIRST) -> list[ConsumerRecord]:
    """The records of a fetch that begins at an offset, as aiokafka's fetcher reads them."""
    fetched = FetchedRecords(TOP, Batches(bytes(data)), [], first, None, None, True, 1)
    return list(fetched)


def offsets(records: Sequence[ConsumerRecord]) -> list[int]:
    return [record.offset for record in records]


def reasons(records: Sequence[ConsumerRecord]) -> dict[int, str]:
    return {record.offset: record.reason for record in records if isinstance(record, UnreadableRecord)}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("by_aiokafka", [2**20, 0])
def test_good_batches_are_read_as_they_were_written(
    codec: int, by_aiokafka: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_batches, "_MAX_AIOKAFKA_BYTES", by_aiokafka)
    found = read(batch(RECORDS * 30, codec) + batch(RECORDS, codec, FIRST + 240), FIRST + 5)
    assert offsets(found) == list(range(FIRST + 5, FIRST + 248))
    assert [(one.key, one.value, list(one.headers)) for one in found] == (RECORDS * 31)[5:]
    assert [one.timestamp for one in found[:3]] == [1005, 1006, 1007]
    assert {(one.topic, one.partition) for one in found} == {TOP}


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_name_that_is_not_utf_8_is_kept_byte_by_byte(codec: int) -> None:
    """aiokafka raises a UnicodeDecodeError, which would end this worker and each next one."""
    odd = [(b"k", b"odd", [NOT_UTF8, ("é", None)])]
    found = read(written([RECORDS[0], *odd, RECORDS[1]], codec))
    assert [one.value for one in found] == [RECORDS[0][1], b"odd", RECORDS[1][1]]
    assert found[1].headers == (NOT_UTF8, ("é", None))
    assert b"tr\xff" in written(odd, 0)


def written(records: Sequence[Any], codec: int) -> bytearray:
    """A batch of the corrected producer."""
    builder = _Builder(2**20, codec)
    pending = list(records)
    data: list[bytearray] = []
    while pending:
        key, value, headers = pending[0]
        if builder.append(timestamp=None, key=key, value=value, headers=headers) is not None:
            del pending[0]
            continue
        data.append(builder._build())  # noqa: SLF001  as aiokafka's sender
        builder = _Builder(2**20, codec)
    data.append(builder._build())  # noqa: SLF001
    at = FIRST
    for each in data:
        placed(each, at)
        at += HEADER.unpack_from(each)[-1]
    return bytearray(b"".join(data))


@pytest.mark.parametrize(
    ("headers", "reason"), [([("", None)] * (MAX_HEADERS + 1), "10001 headers, more than 10000"), ([("", b"")], None)]
)
@pytest.mark.parametrize("by_aiokafka", [2**20, 0])
def test_a_record_with_too_many_headers_is_unreadable_alone(
    headers: list[Any], reason: str | None, by_aiokafka: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_batches, "_MAX_AIOKAFKA_BYTES", by_aiokafka)
    found = read(batch([RECORDS[0], (None, b"", headers), RECORDS[1]]))
    assert offsets(found) == [FIRST, FIRST + 1, FIRST + 2]
    assert list(reasons(found)) == ([FIRST + 1] if reason else [])
    assert all(str(reason) in text for text in reasons(found).values())


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_decompresses_to_too_much_is_unreadable_and_reading_goes_on(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_batches, "MAX_BATCH_BYTES", 100_000)
    large = batch([RECORDS[0], (b"k", b" " * 100_000, []), RECORDS[1]], codec)
    found = read(large + batch(RECORDS, codec, FIRST + 3))
    assert offsets(found) == list(range(FIRST, FIRST + 11))
    assert set(reasons(found)) == {FIRST, FIRST + 1, FIRST + 2}
    assert all("more than 100000 bytes" in reason for reason in reasons(found).values())
    assert found[0].timestamp == 1002, "of the batch"


def test_a_record_that_is_too_large_costs_no_other_one() -> None:
    found = read(batch([RECORDS[0], (b"k", bytes(record_batches.MAX_RECORD_BYTES), []), RECORDS[1]], 4))
    assert [record.value for record in found] == [RECORDS[0][1], None, RECORDS[1][1]]
    assert reasons(found) == {FIRST + 1: "ValueError: 8388618 bytes, more than 8388608"}


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_decompression_stops_at_its_limit(codec: int, size: int) -> None:
    for data in (b" " * size, random.Random(7).randbytes(size)):
        packed = bytes(ENCODERS[codec](data))
        assert bytes(decompress(codec, packed, size)) == data
        if size:
            with pytest.raises(TooLargeError, match=f"more than {size - 1} bytes"):
                decompress(codec, packed, size - 1)


def test_other_forms_of_compressed_data() -> None:
    assert bytes(decompress(2, bytes(cramjam.snappy.compress_raw(b"raw" * 9)), 99)) == b"raw" * 9
    assert bytes(decompress(1, gzip_encode(b"one ") + gzip_encode(b"two"), 99)) == b"one two"
    with pytest.raises(TooLargeError):
        decompress(1, gzip_encode(b"one ") + gzip_encode(b"two"), 6)
    with pytest.raises(ValueError, match="more than 100 gzip members"):
        decompress(1, gzip_encode(b"") * 101, 99)
    with pytest.raises(ValueError, match="unknown compression codec 5"):
        decompress(5, b"", 99)


def test_damaged_fields_cost_one_record() -> None:
    data = batch()
    at = data.index(b"k3") - 1
    data[at] = 0x7F  # the key is longer than its record
    found = read(with_crc(data) + batch(RECORDS, 0, FIRST + 8))
    assert offsets(found) == list(range(FIRST, FIRST + 16))
    assert list(reasons(found)) == [FIRST + 3]


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 6, 7])
def test_data_that_cannot_be_decompressed_cost_their_batch(codec: int) -> None:
    found = read(with_content(b"\x82SNAPPY\x00 no such data", 2, codec) + batch(RECORDS, 0, FIRST + 2))
    assert offsets(found) == list(range(FIRST, FIRST + 10))
    assert set(reasons(found)) == {FIRST, FIRST + 1}


@pytest.mark.parametrize("part", ["decompress", "Batch._uncompressed", "record_fields"])
def test_a_lack_of_memory_is_no_damage(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good record must not become a dead letter for it."""

    def lacking(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(f"streamer.kafka.record_batches.{part}", lacking)
    if part == "record_fields":
        monkeypatch.setattr(record_batches, "_MAX_AIOKAFKA_BYTES", 0)
    with pytest.raises(MemoryError):
        read(batch(RECORDS, codec=1))


def test_offsets_that_their_producer_invented_lose_no_position() -> None:
    for invented in (5, 0, 60):
        content = b"".join(bytes([14, 0, 0, delta * 2, 1, 1, 0, 0]) for delta in (0, invented, 2))
        found = read(with_content(content, 3) + batch(RECORDS, 0, FIRST + 3))
        assert offsets(found) == list(range(FIRST, FIRST + 11))


@pytest.mark.parametrize("at", [0, 1])
def test_a_wrong_checksum_ends_the_fetch_with_its_position(at: int) -> None:
    damaged = batch(RECORDS, 0, FIRST + 8 * at)
    damaged[-3] ^= 1
    found = read((batch() if at else b"") + damaged + batch(RECORDS, 0, FIRST + 16))
    assert offsets(found) == list(range(FIRST, FIRST + 8 * at + 1))
    assert isinstance(found[-1], DamagedLog)
    assert "CRC" in found[-1].reason
    assert found[-1].reason.endswith(f"the batch seems to have the offsets {FIRST + 8 * at} to {FIRST + 8 * at + 7}")
    assert (found[-1].topic, found[-1].partition) == TOP


@pytest.mark.parametrize("length", [-(2**31), -20, -5, 0, 5, 40, 10_000, 2**31 - 1])
def test_a_damaged_length_ends_the_fetch_with_its_position(length: int) -> None:
    data = batch()
    data[8:12] = struct.pack(">i", length)
    (found,) = read(data)
    assert isinstance(found, DamagedLog)
    assert found.offset == FIRST


def test_an_incomplete_last_batch_is_no_damage() -> None:
    """Brokers cut the reply at the bytes that the fetch allows."""
    found = read(batch() + batch(RECORDS, 0, FIRST + 8)[:-5])
    assert offsets(found) == list(range(FIRST, FIRST + 8))
    assert not reasons(found)
    assert read(b"") == []


def test_an_abort_marker_that_cannot_be_read_is_a_damage() -> None:
    data = with_content(b"\x0e\x00\x00\x00\x01\x01\x00\x00", 1, 0x20)  # a control record without its key
    (found,) = read(data + batch(RECORDS, 0, FIRST + 1))
    assert isinstance(found, DamagedLog)


@pytest.mark.parametrize("timestamp", [-(2**63), -1, 0, 2**63 - 1])
def test_odd_timestamps_are_read(timestamp: int) -> None:
    data = batch(RECORDS[:1])
    data[27:43] = struct.pack(">qq", timestamp, timestamp)
    (found,) = read(with_crc(data))
    assert found.timestamp == timestamp


changes = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6)


@given(st.sampled_from(CODECS), changes, st.booleans(), st.sampled_from([0, 2**20]))
@example(0, [(21, 0x20)], True, 0)
def test_no_change_of_a_batch_raises_or_loses_a_position(
    codec: int, changed: list[tuple[int, int]], is_signed: bool, by_aiokafka: int
) -> None:
    """With a right checksum all positions have an outcome; otherwise the log is damaged at the first one."""
    data = batch(RECORDS, codec)
    header = bytes(data[:21]), bytes(data[21:61])
    for at, value in changed:
        data[21 + at % (len(data) - 21)] = value
    data[23:27], data[57:61] = header[1][2:6], header[1][36:40]  # the brokers check the number of records
    data[22] &= ~0x30  # only brokers write control records
    if is_signed:
        with_crc(data)
    before = record_batches._MAX_AIOKAFKA_BYTES  # noqa: SLF001
    record_batches._MAX_AIOKAFKA_BYTES = by_aiokafka  # noqa: SLF001
    try:
        found = read(data + batch(RECORDS, codec, FIRST + 8))
    finally:
        record_batches._MAX_AIOKAFKA_BYTES = before  # noqa: SLF001
    if isinstance(found[-1], DamagedLog):
        assert not is_signed
        assert offsets(found) == [FIRST]
    else:
        assert offsets(found) == list(range(FIRST, FIRST + 16))


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(0, 0xF))
def test_any_content_with_a_right_checksum_has_one_outcome_for_each_position(
    content: bytes, count: int, attributes: int
) -> None:
    found = read(with_content(content, count, attributes))
    assert offsets(found) == list(range(FIRST, FIRST + count))


@given(st.binary(max_size=300))
def test_any_bytes_are_records_or_a_damage(data: bytes) -> None:
    for found in read(data, 0):
        assert (found.topic, found.partition) == TOP
