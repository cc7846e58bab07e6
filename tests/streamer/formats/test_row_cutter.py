"""Compiled code cuts a document as a parser would, whatever it has seen before."""

import time
from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import native
from streamer.codec import Codec
from streamer.features.candidate_rows import DigestedRows, row_digests
from streamer.formats.json_documents import JsonDocuments
from streamer.formats.row_cutter import RowCutter
from streamer.settings.sections import CodecSettings
from streamer.types import BadRecord, BidRequest, RequestPaths

pytestmark = pytest.mark.skipif(native.module is None, reason="the compiled code is not used")

KNOWN = [
    b"{}",
    b'{"ad_id":"a"}',
    b'{"ad_id":"a","x":1}',
    b'{ "ad_id" : "a" }',
    b'{"ad_id":"}{]["}',
    b'{"ad_id":"\\"}\\\\","x":[{"y":["}"]},[],-1.5e3]}',
    b'{"ad_id":"%b","x":null}' % (b"long" * 30),
    b'{"ad_id":"%b","x":true}' % (b"long" * 30),
    '{"ad_id":"ä\U0001f600"}'.encode(),
    b'{"x":' + b"[" * 30 + b"]" * 30 + b"}",
]
NEW = [b'{"ad_id":"new"}', b'{"ad_id":"a","x":2}', b'{"x":"' + b"long" * 30 + b'"}', b'{"x":"\xff"}']
BAD = [
    b"1",
    b'"a"',
    b"[]",
    b"null",
    b"{",
    b"",
    b'{"a"}',
    b'{"a":01}',
    b'{"a":1,}',
    b'{"a":"\\q"}',
    b'{"a":}',
    b'{"x":' + b"[" * 40 + b"]" * 40 + b"}",
    b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
]
PATHS = RequestPaths(request_id="request_id", candidates="candidates")


def codec(*, compiled: bool = True, max_candidates: int = 20) -> Codec:
    module = native.module
    native.module = module if compiled else None
    try:
        made = Codec(CodecSettings(max_candidates=max_candidates), PATHS, frozenset({"user"}), frozenset({"user"}))
    finally:
        native.module = module
    return made


def cuts(one: Codec) -> bool:
    """Whether the codec cuts a document of known candidates."""
    found = one.decode(document(b"[%b]" % b",".join(KNOWN)), ())
    assert isinstance(found, BidRequest)
    return isinstance(found.rows, DigestedRows)


def document(candidates: bytes, space: bytes = b"") -> bytes:
    return (b'{"request_id":"r1","user":{"x":["}"]},"candidates":%b,"y":1}' % candidates).replace(b":", b":" + space)


def outcome(found: BidRequest | BadRecord) -> object:
    if isinstance(found, BadRecord):
        return found
    rows = (
        None
        if found.rows is None
        else [(bytes(row), digest) for row, digest in zip(found.rows, row_digests(found.rows), strict=True)]
    )
    return found.request_id, found.fields, found.size, rows, found.columns, found.deadline_ms, found.model


COMPILED, PYTHON = codec(), codec(compiled=False)

candidates = st.lists(st.sampled_from([*KNOWN, *KNOWN, *NEW]), max_size=6)
spaces = st.sampled_from([b"", b" ", b"\n\t ", b"\r"])
damaged = st.lists(st.sampled_from([*KNOWN, *KNOWN, *NEW, *BAD]), max_size=6)
keys = st.sampled_from(
    [
        b'"request_id"',
        b'"user"',
        b'"candidates"',
        b'"candid\\u0061tes"',
        b'"x\\""',
        b'"candidates\\\\"',
        b'""',
        b"x",
        b'"\xc3"',
    ]
)
values = st.sampled_from(
    [b'"r1"', b"{}", b'{"candidates":[{}]}', b"[]", b"null", b"1", b'"\\"]"', b"[[{}]]", b"", b'"']
)
lists = st.tuples(damaged, spaces).map(lambda one: b"[%b]" % (one[1] + b"," + one[1]).join(one[0]))
members = st.lists(st.tuples(keys, values | lists) | st.tuples(st.just(b'"candidates"'), lists), max_size=4)
edits = st.tuples(
    st.integers(0, 700),
    st.integers(0, 3),
    st.binary(max_size=2) | st.sampled_from([b'"', b",", b"{", b"}", b"[", b"]", b"\\", b":", b" "]),
)


def same(value: bytes) -> None:
    assert any(cuts(COMPILED) for _ in range(32)), "a pause has an end"
    assert outcome(COMPILED.decode(value, ())) == outcome(PYTHON.decode(value, ()))


@settings(max_examples=300, deadline=None)
@given(rows=candidates, space=spaces)
def test_the_candidates_are_those_of_a_parser(rows: list[bytes], space: bytes) -> None:
    value = document(b"[" + space + (space + b"," + space).join(rows) + space + b"]", space)
    same(value)


@settings(max_examples=300, deadline=None)
@given(members=members, space=spaces, end=st.sampled_from([b"", b" ", b",", b"}", b"x"]))
def test_any_document_has_the_same_outcome(members: list[tuple[bytes, bytes]], space: bytes, end: bytes) -> None:
    members = [(b'"request_id"', b'"r1"'), *members]
    same(space + b"{%b}" % b",".join(key + space + b":" + space + value for key, value in members) + space + end)


@settings(max_examples=300, deadline=None)
@given(rows=damaged, edit=edits)
def test_a_damaged_document_has_the_same_outcome(rows: list[bytes], edit: tuple[int, int, bytes]) -> None:
    whole = document(b"[%b]" % b",".join(rows))
    at, cut, put = edit
    at %= len(whole)
    same(whole[:at] + put + whole[at + cut :])


@settings(max_examples=300, deadline=None)
@given(value=st.binary(max_size=60) | st.text('{}[]",:\\ "candidates":[{', max_size=60).map(str.encode))
def test_bytes_that_are_no_document_have_the_same_outcome(value: bytes) -> None:
    same(value)
    same(b'{"candidates":[' + value)
    same(b'{"candidates":[{}' + value)


def test_each_part_of_a_document_has_the_same_outcome() -> None:
    whole = document(b"[%b]" % b",".join(KNOWN))
    for end in range(len(whole)):
        same(whole[:end])


def test_known_candidates_are_cut() -> None:
    ours = codec()
    assert [cuts(ours) for _ in range(5)] == [True] * 5
    assert not cuts(PYTHON)


def cutter(max_rows: int = 1000) -> RowCutter:
    return RowCutter("candidates", max_rows)


def numbered(numbers: Iterable[int]) -> bytes:
    return document(b"[%b]" % b",".join(b'{"ad_id":"ad-%d"}' % number for number in numbers))


def test_more_rows_than_allowed_need_a_parser() -> None:
    assert cutter(3).cut(numbered(range(3))) is not None
    assert cutter(3).cut(numbered(range(4))) is None


def test_the_cutter_pauses_while_many_candidates_are_new() -> None:
    ours = cutter()
    made = [ours.cut(numbered(range(10 * i, 10 * i + 10))) is not None for i in range(500)]
    assert made[:7] == [True, True, False, True, False, False, False]
    assert sum(made) == 20  # pauses of 1, 3, 7, 15 and then 31 documents
    known = numbered(range(10))
    some_new = numbered([*range(10), 10**6, 10**6 + 1])
    assert any(ours.cut(known) is not None for _ in range(32))
    assert ours.cut(some_new) is not None
    assert all(ours.cut(known) is not None for _ in range(32))


def test_memory_has_a_bound() -> None:
    assert native.module is not None
    compiled = native.module.RowCutter("candidates", 1, 1000, 5000)
    texts = [b'{"ad_id":"ad-%d","x":"%b"}' % (i, b"x" * (i % 700)) for i in range(2000)]
    for text in texts:
        compiled.remember([text, text])
        assert compiled.used_bytes <= 5000
    compiled.remember([b'{"x":"%b"}' % (b"x" * 6000)])
    assert 4000 < compiled.used_bytes <= 5000
    rest, digests, rows, unknown = compiled.cut(document(b"[%b]" % b",".join([texts[-1], texts[0], texts[-2]])))
    assert rest == document(b"[]")
    assert unknown == [texts[0]]
    assert [rows[i] for i in range(len(digests))] == [texts[-1], texts[0], texts[-2]]
    with pytest.raises(IndexError):
        rows[3]


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 10**6,
        b'{"x":' + b"[" * 10**6,
        b'{"x":"' + b'\\"' * 500_000,
        b'{"candidates":[' + b"{}," * 300_000,
        b'{"candidates":[{"x":' + b"[]," * 300_000,
        b"{" + b'"x":1,' * 150_000,
    ],
)
def test_no_document_takes_long(value: bytes) -> None:
    ours = RowCutter("candidates", 4096)
    start = time.process_time()
    for _ in range(5):
        assert ours.cut(value) is None
    assert time.process_time() - start < 1


def test_candidates_inside_of_another_value_are_not_cut() -> None:
    documents = JsonDocuments({"ext"}, frozenset(), None, 10)
    fields, found = documents.read(orjson.dumps({"ext": {"candidates": [{}]}}))
    assert fields == {"ext": {"candidates": [{}]}}
    assert found is None
