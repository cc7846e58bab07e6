"""Reading click logs."""

import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest

from model_training.data.click_log import count_lines, encode_log, read_log
from model_training.errors import DataError
from streamer.features import Encoder

_GOOD = {"timestamp_ms": 1, "request": {"user": {}}, "candidates": [{"ad_id": "a"}], "clicked": [1]}


def _log(folder: Path, *lines: bytes) -> Path:
    path = folder / "log.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamp_ms": "now"}, "timestamp_ms: expected an integer, got 'now'"),
        ({"timestamp_ms": True}, "timestamp_ms: expected an integer, got True"),
        ({"timestamp_ms": 2**63}, "timestamp_ms: expected an integer, got 9223372036854775808"),
        ({"request": None}, "request: expected an object, got nothing"),
        ({"candidates": {}}, "candidates: expected a list"),
        ({"candidates": ["a"]}, r"candidates\[0\]: expected an object, got 'a'"),
        ({"clicked": [0, 1]}, r"clicked: expected a list as long as candidates \(1\), got \[0, 1\]"),
        ({"clicked": [2]}, r"clicked\[0\]: expected 0 or 1, got 2"),
        ({"clicked": [1.0]}, r"clicked\[0\]: expected 0 or 1, got 1\.0"),
        ({"clicked": [None]}, r"clicked\[0\]: expected 0 or 1, got nothing"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = _log(tmp_path, orjson.dumps(_GOOD), orjson.dumps(_GOOD | change))
    with pytest.raises(DataError, match=rf"log\.jsonl:2: {message}"):
        list(read_log(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not valid JSON"),
        (b'{"clicked": [NaN]}', "not valid JSON"),
        (b"[1]", r"expected an object, got \[1\]"),
        (b"[" * 1020 + b"]" * 1020, "expected an object, got "),
    ],
)
def test_a_line_that_is_no_object_is_rejected(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"log\.jsonl:1: {message}"):
        list(read_log(_log(tmp_path, line)))


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_log_out_of_order_is_rejected(tmp_path: Path, first: int) -> None:
    path = _log(tmp_path, *(orjson.dumps(_GOOD | {"timestamp_ms": at}) for at in (3, 5, 4, 9)))
    with pytest.raises(DataError, match=r"log\.jsonl:3: timestamp_ms: 4 is earlier than 5 of the line before"):
        list(read_log(path, first=first))
    assert [logged.timestamp_ms for logged in read_log(path, first=3)] == [9]
    assert [logged.timestamp_ms for logged in read_log(path, first=1, last=2)] == [5]


def test_compressed_logs_read_alike(tmp_path: Path, log: Path) -> None:
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert count_lines(packed) == count_lines(log) == 2000
    assert list(read_log(packed, last=50)) == list(read_log(log, last=50))


def test_a_truncated_archive_is_a_data_error(tmp_path: Path, log: Path) -> None:
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress(log.read_bytes())[:2000])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_log(packed))


def test_a_missing_log_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: cannot be read: No such file"):
        list(read_log(tmp_path / "absent"))


def test_the_parts_of_a_log_make_the_whole(log: Path) -> None:
    assert [*read_log(log, last=30), *read_log(log, first=30, last=70)] == list(read_log(log, last=70))


def test_chunks_equal_the_encoder_s_output(log: Path, encoder: Encoder) -> None:
    requests = list(read_log(log, last=20))
    chunks = list(encode_log(iter(requests), encoder, chunk=25))
    ids, floats = encoder.encode_log(
        [r.request for r in requests],
        [c for r in requests for c in r.candidates],
        [len(r.candidates) for r in requests],
    )
    assert [len(chunk.labels) for chunk in chunks] == [27, 27, 6]
    np.testing.assert_array_equal(np.concatenate([c.ids for c in chunks]), ids)
    np.testing.assert_array_equal(np.concatenate([c.floats for c in chunks]), floats)
    assert np.concatenate([c.labels for c in chunks]).tolist() == [x for r in requests for x in r.clicked]
