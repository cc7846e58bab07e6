"""Columns of plain values need no parser, and have the outcome that a parser would give."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import native
from streamer.codec import Codec
from streamer.features.candidate_rows import DigestedRows
from streamer.formats.column_rows import ColumnRows
from streamer.settings.sections import CodecSettings
from streamer.types import BadRecord, BidRequest, RequestPaths

pytestmark = pytest.mark.skipif(native.module is None, reason="the compiled code is not used")

PATHS = RequestPaths(request_id="request_id", candidates="candidates")
ADS = ["a", "b", "c"]
VALUES = ['"a"', '"b"', '""', "1", "-0.5", "1e3", "true", "null", "[]", '["a"]', '{"k":1}', '"q\\""', '"x]"', '"ä"']
TRAPS = [
    '"p,q"',
    '"p", "q"',
    '["a","b"]',
    '{"k":1,"j":2,"i":3}',
    "[[1],[2]]",
    '"x\\",\\"y"',
    "01",
    "1 2",
    "a",
    '"\xff"',
    "",
]
tokens = st.sampled_from(VALUES * 3 + TRAPS)
columns = st.dictionaries(st.sampled_from(["x", "y"]), st.lists(tokens, min_size=1, max_size=4), max_size=2)
edits = st.tuples(
    st.integers(0, 300),
    st.integers(0, 3),
    st.binary(max_size=2) | st.sampled_from(list(b'",{}[]\\: ')).map(lambda byte: bytes([byte])),
)


def codec(*, compiled: bool = True, keys: frozenset[str] | None = None, by_id: bool = False) -> Codec:
    module = native.module
    native.module = module if compiled else None
    try:
        return Codec(CodecSettings(), PATHS, frozenset({"user"}), frozenset({"user"}), candidate_keys=keys, by_id=by_id)
    finally:
        native.module = module


def document(texts: dict[str, list[str]], ads: list[str] = ADS) -> bytes:
    all_columns = {"ad_id": [f'"{ad}"' for ad in ads], **texts}
    lists = ",".join(f'"{name}":[{",".join(values)}]' for name, values in all_columns.items())
    return f'{{"request_id":"r1","user":{{"x":1}},"candidates":{{{lists}}},"y":2}}'.encode("latin-1")


def outcome(found: BidRequest | BadRecord) -> object:
    """What the encoder sees: the objects of the candidates, or the first error."""
    if isinstance(found, BadRecord):
        return found
    if found.rows is None:
        return found.fields, repr(found.columns)
    assert found.read_row is not None
    try:
        objects = [found.read_row(row) for row in found.rows]
    except ValueError as error:
        return found.fields, str(error)
    assert all(isinstance(one, dict) for one in objects)
    return found.fields, repr({name: [one[name] for one in objects] for name in objects[0]})  # type: ignore[index, attr-defined]


@settings(max_examples=400, deadline=None)
@given(some=st.lists(columns, min_size=1, max_size=3), edit=edits, ads=st.permutations(ADS))
def test_the_outcome_is_that_of_a_parser(
    some: list[dict[str, list[str]]], edit: tuple[int, int, bytes], ads: list[str]
) -> None:
    compiled, python = codec(), codec(compiled=False)
    for texts in [*some, *some]:
        value = document(texts)
        at, cut, put = edit
        at %= len(value)
        # The third one has the known pieces in another order.
        for one in (value, value[:at] + put + value[at + cut :], document({k: v[::-1] for k, v in texts.items()}, ads)):
            assert outcome(compiled.decode(one, ())) == outcome(python.decode(one, ()))


def test_plain_columns_are_cut_without_a_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    one, value = codec(), document({"x": ["1", "2", "3"], "y": ['"a"', '"b"', "null"]})
    assert isinstance(one.decode(value, ()), BidRequest)
    expected = outcome(codec(compiled=False).decode(value, ()))
    monkeypatch.setattr(ColumnRows, "candidates", None)
    found = [one.decode(value, ()) for _ in range(3)][-1]
    assert isinstance(found, BidRequest)
    assert isinstance(found.rows, DigestedRows)
    assert outcome(found) == expected


@pytest.mark.parametrize("keys", [frozenset({"x"}), frozenset({"x", "y", "z"})])
def test_a_column_that_is_not_read_is_checked(keys: frozenset[str]) -> None:
    compiled, python = codec(keys=keys), codec(compiled=False, keys=keys)
    good = document({"x": ["1", "2", "3"], "y": ["1", "2", "3"]})
    for value in (good, good, good.replace(b'"y":[1,2', b'"y":[1,2,,'), good.replace(b'"y":[1', b'"y":[nul')):
        assert outcome(compiled.decode(value, ())) == outcome(python.decode(value, ()))


def test_columns_that_are_new_each_time_become_a_matter_of_the_parser() -> None:
    compiled, python = codec(), codec(compiled=False)
    for number in range(100):
        value = document({"x": [f"{number}.{i}" for i in range(3)]}, [f"{number}-{i}" for i in range(3)])
        assert outcome(compiled.decode(value, ())) == outcome(python.decode(value, ()))
    known = document({"x": ["1", "2", "3"]})
    found = [compiled.decode(known, ()) for _ in range(40)][-1]
    assert isinstance(found, BidRequest)
    assert orjson.loads(b"[%b]" % bytes(found.rows[0])[17:]) == ["a", 1]  # type: ignore[index]
