"""A request with a schema registry's prefix means the same as without it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.codec import Codec, encode_answer
from streamer.features import Encoder
from streamer.formats.content_type import BINARY_TYPE
from streamer.formats.ctr_pb2 import Scores
from streamer.formats.frames import has_prefix, is_framed, message_in, prefix, schema_id, unframed
from streamer.formats.read_answers import read_answer
from streamer.settings.sections import CodecSettings
from streamer.types import BadRecord, BidRequest, Header, Origin, ScoreMessage
from tests.streamer.features.test_encoder import same
from tests.streamer.formats.binary_requests import BINARY, by_candidates
from tests.streamer.specs import small_spec

SPEC = small_spec()
CODEC = Codec(CodecSettings(), SPEC.request, SPEC.document_keys, SPEC.containers)
REQUEST = by_candidates({"request_id": "r1", "user": {"id": "u"}}, texts={"ad_id": ["a", "b"], "campaign": ["c", "d"]})
FRAMED = b"\0\0\0\1\2\0" + REQUEST
ANSWER = ScoreMessage("r1", "expired", Origin("t", 0, 7))


@pytest.mark.parametrize("headers", [(), BINARY, (("content-type", b"application/json"),)])
def test_a_request_means_the_same_with_a_prefix(headers: tuple[Header, ...]) -> None:
    encoder = Encoder(SPEC, memoised_ads=8)
    plain = CODEC.decode(REQUEST, BINARY)
    for framed in (FRAMED, b"\0\0\0\1\2\2\0" + REQUEST):  # the index [0] has a short form
        found = CODEC.decode(framed, headers)
        assert isinstance(plain, BidRequest)
        assert isinstance(found, BidRequest), found
        same(encoder.encode(found), encoder.encode(plain))
    assert schema_id(FRAMED) == 258


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\0", "record: the schema registry's prefix is not complete"),
        (b"\0\0\0\0\1", "record: the schema registry's prefix is not complete"),
        (b"\0\0\0\0\1\xff\xff\xff\xff\xff\xff", "record: the schema registry's prefix is not complete"),
        (b"\0\0\0\0\1\4\0", "record: the schema registry's prefix is not complete"),
        (b"\0\0\0\0\1\1" + REQUEST, "record: -1 message indexes in the schema registry's prefix"),
        (b"\0\0\0\0\1\2\10" + REQUEST, "expected message index [0] (ctr.v1.BidRequest) in the schema"),
        (b"\0\0\0\0\1\0", "request_id: expected a non-empty string, got nothing"),
        (b"\0\0\0\0\1\0\xff", "record: not valid Protobuf"),
    ],
)  # fmt: skip
def test_a_bad_prefix_is_a_reason(value: bytes, reason: str) -> None:
    found = CODEC.decode(value, (("request_id", b"r9"),))
    if "non-empty" in reason:
        assert isinstance(CODEC.decode(value, ()), BadRecord)
        return
    assert isinstance(found, BadRecord)
    assert found.request_id == "r9"
    assert reason in found.reason


def test_another_package_gets_the_record_of_its_type_as_it_is() -> None:
    headers = (("content-type", b"application/x-own"),)
    assert is_framed(FRAMED)
    assert not has_prefix(FRAMED, headers)
    found = CODEC.decode(FRAMED, headers)
    assert isinstance(found, BadRecord)
    assert "application/x-own" in found.reason


def test_json_in_another_encoding_still_gets_an_answer() -> None:
    found = CODEC.decode('{"request_id":"r1","candidates":[]}'.encode("utf-16-be"), ())
    assert isinstance(found, BadRecord)
    assert found.request_id == "r1"


@given(number=st.integers(0, 2**32 - 1), place=st.lists(st.integers(0, 2**20), min_size=1, max_size=4))
def test_a_prefix_is_read_as_it_is_written(number: int, place: list[int]) -> None:
    value = prefix(number, place) + b"message"
    assert is_framed(value)
    assert schema_id(value) == number
    assert unframed(value, "M", place) == message_in(value) == b"message"


@pytest.mark.parametrize("headers", [(), BINARY])
def test_a_framed_request_gets_a_framed_answer(headers: tuple[Header, ...]) -> None:
    value, its = encode_answer(ANSWER, headers, "as_requested", framed=True, prefix=prefix(7, [4]))
    assert value[:7] == b"\0\0\0\0\7\2\10"
    assert Scores.FromString(value[7:]).request_id == "r1"
    assert tuple(its) == (("content-type", BINARY_TYPE.encode()),)
    assert read_answer(value, its) == read_answer(value, ()) == read_answer(encode_answer(ANSWER, (), "json")[0], ())


def test_without_a_registry_the_answer_to_a_framed_request_has_no_prefix() -> None:
    value, its = encode_answer(ANSWER, (), "as_requested", framed=True)
    assert Scores.FromString(value).request_id == "r1"
    assert its == [("content-type", BINARY_TYPE.encode())]
    assert encode_answer(ANSWER, (), "json", framed=True, prefix=b"x")[0].startswith(b"{")
