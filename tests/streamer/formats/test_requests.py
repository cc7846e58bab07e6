"""A request means the same as JSON rows, as JSON columns and in binary, and so does a bad one."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamer
from streamer.ads import TablePosition
from streamer.codec import Codec, encode_answer, encode_scores
from streamer.errors import InvalidRequestError
from streamer.features import Encoder
from streamer.formats.ctr_pb2 import BidRequest as BinaryMessage
from streamer.formats.ctr_pb2 import Candidate, Column, Texts
from streamer.formats.read_answers import read_answer
from streamer.settings.sections import CodecSettings
from streamer.types import (
    BadRecord,
    BidRequest,
    EncodedRequest,
    Header,
    ModelVersion,
    Origin,
    ScoreMessage,
    StageTimes,
)
from tests.streamer.features.test_encoder import same
from tests.streamer.formats.binary_requests import BINARY, by_candidates, by_columns, json_value
from tests.streamer.specs import requests, small_spec

SPEC = small_spec()
CODEC = Codec(CodecSettings(), SPEC.request, SPEC.document_keys, SPEC.containers)
ENCODER = Encoder(SPEC, memoised_ads=64)
ROOT = Path(streamer.__file__).parent.parent

texts = st.text(st.characters(codec="utf-8"), max_size=4) | st.sampled_from(["s", "m", "1", "inf"])
numbers = st.floats(allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 2.0**60])
candidates = st.tuples(texts, texts, texts, numbers, st.lists(texts, max_size=3))


def outcome(value: bytes, headers: tuple[Header, ...]) -> EncodedRequest | tuple[str | None, str]:
    """The encoded request, or the id and the reason of its rejection."""
    request = CODEC.decode(value, headers)
    if isinstance(request, BadRecord):
        return request.request_id, request.reason
    try:
        return ENCODER.encode(request)
    except InvalidRequestError as error:
        return request.request_id, str(error)


@settings(max_examples=30, deadline=None)
@given(fields=requests, some=st.lists(candidates, max_size=5), request_id=st.sampled_from(["r", "", 3]))
def test_all_forms_of_a_request_have_the_same_ids_or_the_same_error(
    fields: dict[str, object], some: list[tuple[str, str, str, float, list[str]]], request_id: object
) -> None:
    document = {**fields, "request_id": request_id}
    paths = ("ad_id", "campaign", "banner.size")
    of_texts = {path: [str(candidate[i]) for candidate in some] for i, path in enumerate(paths[:3])}
    of_numbers, of_lists = {"bid": [candidate[3] for candidate in some]}, {"tags": [c[4] for c in some]}
    in_rows = [
        {"ad_id": a, "campaign": json_value(c), "banner": {"size": json_value(s)}, "bid": json_value(b), "tags": t}
        for a, c, s, b, t in some
    ]
    in_columns = {key: [row[key] for row in in_rows] for key in ("ad_id", "campaign", "banner", "bid", "tags")}
    found = [
        outcome(orjson.dumps({**document, "candidates": in_rows}), ()),
        outcome(orjson.dumps({**document, "candidates": in_columns}), ()),
        outcome(by_candidates(document, texts=of_texts, numbers=of_numbers, lists=of_lists), BINARY),
        outcome(by_columns(document, texts=of_texts, numbers=of_numbers, lists=of_lists), BINARY),
    ]
    if not some:  # an empty column has no place in Protobuf
        found = found[:3]
    first = found[0]
    if isinstance(first, EncodedRequest):
        for other in found[1:]:
            assert isinstance(other, EncodedRequest), other
            assert same(first, other)
    else:
        assert found == [first] * len(found)


COLUMN_OF_ADS = Column(path="ad_id", texts=["a"])
CUT = "record: not valid Protobuf: expected a ctr.v1.BidRequest"
GOOD = by_candidates({"request_id": "r"}, texts={"ad_id": ["a", "b"]}, numbers={"bid": [1.0, 2.0]})


def message(**changes: object) -> bytes:
    """`GOOD` with other fields."""
    whole = BinaryMessage.FromString(GOOD)
    for name, value in changes.items():
        whole.ClearField(name)
        if isinstance(value, bytes):
            whole.document = value
        else:
            getattr(whole, name).extend(value)
    return whole.SerializeToString()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (GOOD[:-3], CUT),
        (message(document=b'{"request_id":"r",}'), "record: not valid JSON: trailing comma"),
        (message(document=b'{"request_id":"r","candidates":[]}'), "candidates: expected none in the document"),
        (message(candidates=[]), "candidates: empty"),
        (message(candidates=[b"\x0a\xff"]), "candidates[0]: not valid Protobuf: expected a ctr.v1.Candidate"),
        (
            message(candidates=[Candidate(texts=["a"]).SerializeToString()]),
            "candidates[0]: expected 1 texts, 1 numbers and 0 lists, as many as there are paths, got 1, 0 and 0",
        ),
        (
            message(candidates=[Candidate(texts=[""], numbers=[1]).SerializeToString()]),
            "candidates[0].ad_id: expected a non-empty string, got ''",
        ),
        (message(text_paths=["crid"]), "candidates[0].ad_id: expected a non-empty string, got nothing"),
        (message(text_paths=["tags[0]"]), "text_paths, number_paths, list_paths: path 'tags[0]': expected keys"),
        (message(text_paths=["bid"]), "text_paths, number_paths, list_paths: path 'bid': another path has a value"),
        (message(text_paths=[".".join("a" * 17)]), "path 'a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a': 17 keys, more than 16"),
        (message(text_paths=[f"a{i}" for i in range(1024)]), "number_paths, list_paths: 1025 paths, more than 1024"),
        (message(candidates=[], columns=[Column()] * 1025), "columns: 1025 paths, more than 1024"),
        (message(candidates=[b""] * 4097), "candidates: 4097 of them, more than codec.max_candidates = 4096"),
        (
            message(candidates=[], columns=[COLUMN_OF_ADS, Column(path="tags", lists=[Texts()] * 9000)]),
            "candidates.tags[0]: expected a list of 1 values, one per ad id",
        ),
        (message(text_paths=["bid.x", "ad_id"]), "path 'bid': another path has a value there"),
        (message(columns=[Column(path="ad_id", texts=["a"])]), "candidates: expected either candidates or columns"),
        (
            message(candidates=[], columns=[Column(path="ad_id", texts=["a"], numbers=[1])]),
            "columns: 'ad_id': expected one of texts, numbers and lists",
        ),
        (
            message(candidates=[], columns=[Column(path="bid", numbers=[1])]),
            "candidates.ad_id: expected a list of ad ids, got nothing",
        ),
        (
            message(candidates=[], columns=[Column(path="ad_id", texts=["a"]), Column(path="bid", numbers=[1, 2])]),
            "candidates.bid: expected a list of 1 values, one per ad id",
        ),
        (
            message(candidates=[], columns=[Column(path="ad_id", texts=["a"]), Column(path="ad_id", texts=["a"])]),
            "columns: path 'ad_id': another path has a value there",
        ),
        (GOOD + b"x" * 2**20, "record: 1048"),
    ],
)
def test_a_bad_binary_request_keeps_its_id_and_names_the_field(value: bytes, reason: str) -> None:
    found = outcome(value, BINARY)
    assert not isinstance(found, EncodedRequest)
    assert found[0] == "r"
    assert reason in found[1]


def test_without_an_id_that_can_be_trusted_it_has_none() -> None:
    end = GOOD.index(b"\x12\x05ad_id")
    moved = GOOD[end:] + GOOD[:end]  # the document is not the first field
    assert isinstance(outcome(moved, BINARY), EncodedRequest)
    assert outcome(moved[:-1], BINARY) == (None, CUT)
    assert outcome(b"", BINARY) == (None, "record: empty")
    assert outcome(b"{}", BINARY) == (None, CUT)
    assert outcome(moved[:-1], (("request_id", b"h"), *BINARY)) == ("h", CUT)


@pytest.mark.parametrize(
    ("media_type", "is_binary"),
    [
        (b"application/x-protobuf", True),
        (b"Application/Protobuf; messageType=ctr.v1.BidRequest", True),
        (b"application/json; charset=utf-8", False),
        (b"application/vnd.bid+json", False),
        (b"text/plain", False),
    ],
)
def test_the_content_type_decides(media_type: bytes, is_binary: bool) -> None:
    headers = (("content-type", media_type),)
    assert isinstance(outcome(GOOD, headers), EncodedRequest) is is_binary
    as_json = b'{"request_id":"r","candidates":[{"ad_id":"a"}]}'
    assert isinstance(outcome(as_json, headers), EncodedRequest) is not is_binary


def test_another_content_type_is_rejected_by_name() -> None:
    reason = "content-type: expected application/json or application/x-protobuf, got 'avro/binary'"
    assert outcome(b'{"request_id":"r"}', (("content-type", b"avro/binary"),)) == ("r", reason)


def test_candidates_are_known_by_their_bytes_and_their_paths() -> None:
    encoder = Encoder(SPEC)
    first = by_candidates({"request_id": "r"}, texts={"ad_id": ["a"], "campaign": ["c"]})
    other = by_candidates({"request_id": "r"}, texts={"ad_id": ["a"], "x": ["c"]})
    decoded = [CODEC.decode(value, BINARY) for value in (first, other)]
    keys = [encoder.encode(request).keys.tolist() for request in decoded if isinstance(request, BidRequest)]
    assert keys[0] != keys[1]


def test_integers_beyond_a_double_are_texts_and_nan_is_missing() -> None:
    paths = {"campaign": ["9007199254740993"]}
    binary = by_candidates({"request_id": "r"}, texts={"ad_id": ["a"], **paths}, numbers={"bid": [math.nan]})
    row = b'{"request_id":"r","candidates":[{"ad_id":"a","campaign":9007199254740993,"bid":null}]}'
    found, expected = outcome(binary, BINARY), outcome(row, ())
    assert isinstance(found, EncodedRequest)
    assert isinstance(expected, EncodedRequest)
    assert same(found, expected)


def answer() -> ScoreMessage:
    return ScoreMessage(
        "r1",
        "partial",
        Origin("t", 3, 2**40),
        model=ModelVersion("ctr", 7),
        ad_ids=["a", "b", "ü"],
        ctr=np.array([0.1, 0.0, 1.0], dtype=np.float32),
        sources=np.array([0, 1, 2], dtype=np.int8),
        reason="timeout",
        times=StageTimes(decode=0.12345, total=2.0),
        batch_rows=600,
        position=TablePosition("ads", (7, 2**40)),
    )


def test_an_answer_has_the_same_fields_in_binary() -> None:
    for message in (answer(), ScoreMessage("r", "expired", Origin("t", 0, 0))):
        (value, headers), as_json = encode_answer(message, BINARY, "as_requested"), encode_scores(message)
        assert headers == BINARY
        assert read_answer(value, headers) == read_answer(as_json, ()) == orjson.loads(as_json)


def test_an_answer_in_json_says_so_if_its_request_was_binary() -> None:
    message, trace = answer(), ("trace", b"1")
    as_json = encode_scores(message)
    assert encode_answer(message, (*BINARY, trace), "json") == (as_json, [trace, ("content-type", b"application/json")])
    for form in ("json", "as_requested"):
        assert encode_answer(message, (trace,), form) == (as_json, (trace,))


def test_the_generated_code_is_that_of_the_schema(tmp_path: Path) -> None:
    schema = "streamer/formats/ctr.proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, schema], cwd=ROOT, check=True)
    for name in ("ctr_pb2.py", "ctr_pb2.pyi"):
        assert (tmp_path / "streamer/formats" / name).read_text() == (ROOT / "streamer/formats" / name).read_text()


def test_the_program_of_the_page_writes_the_request_of_the_page() -> None:
    page = (ROOT / "docs/requests.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, dict[str, object]] = {}
    exec(program, names)  # noqa: S102
    record = names["record"]
    assert isinstance(record["value"], bytes)
    row = b'{"request_id":"r-1","user":{"id":"u7"},"candidates":[{"ad_id":"a1","campaign":"c1","bid":0.4}]}'
    found, expected = outcome(record["value"], BINARY), outcome(row, ())
    assert record["headers"] == list(BINARY)
    assert isinstance(found, EncodedRequest)
    assert isinstance(expected, EncodedRequest)
    assert same(found, expected)
