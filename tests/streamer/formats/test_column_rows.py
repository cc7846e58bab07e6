"""Columns give the candidates that a JSON parser would read, whatever was remembered before."""

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.features.candidate_rows import DigestedRows, row_digests
from streamer.formats.candidates import Candidates
from streamer.formats.column_rows import ColumnRows

values = st.sampled_from(["a", "b", "a,b", 'q"', "x\\", "", 1, 1.5, True, None, [], ["a"], ["a", "b"], {"k": "a"}])
requests = st.lists(
    st.dictionaries(st.sampled_from(["x", "y", "z"]), st.lists(values, max_size=4)).map(
        lambda columns: {"ad_id": [f"ad{i % 3}" for i in range(3)], **columns}
    )
    | st.fixed_dictionaries({name: st.lists(values, min_size=3, max_size=3) for name in ("ad_id", "x", "y")}),
    min_size=1,
    max_size=4,
)


def raw(columns: dict[str, object], *, indent: bool = False) -> dict[str, msgspec.Raw]:
    text = msgspec.json.format(msgspec.json.encode(columns), indent=1 if indent else 0)
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])


def columns_of(found: Candidates, names: list[str]) -> dict[str, object]:
    """The columns again."""
    if found.columns is not None:
        return dict(found.columns)
    assert found.rows is not None
    assert found.read_row is not None
    documents = [found.read_row(row) for row in found.rows]
    assert all(isinstance(document, dict) for document in documents)
    return {name: [document[name] for document in documents] for name in names}  # type: ignore[index]


@settings(max_examples=150, deadline=None)
@given(some=requests, max_bytes=st.sampled_from([0, 700, 10_000]), indent=st.booleans())
def test_the_values_are_those_of_a_parser(some: list[dict[str, object]], max_bytes: int, indent: bool) -> None:
    rows = ColumnRows("ad_id", max_bytes=max_bytes)
    for columns in [*some, *some]:
        candidates = rows.candidates(raw(columns, indent=indent))
        lengths = {len(column) for column in columns.values() if isinstance(column, list)}
        if len(lengths) == 1 or candidates.columns is not None:
            assert orjson.dumps(columns_of(candidates, list(columns))) == orjson.dumps(columns)
        else:
            with pytest.raises(ValueError, match="expected columns with one valid value for each ad id"):
                columns_of(candidates, list(columns))
        assert rows.used_bytes <= max_bytes


def test_a_known_ad_has_the_digest_of_its_row() -> None:
    rows = ColumnRows("ad_id")
    columns: dict[str, object] = {"ad_id": ["a", "b"], "x": ["1", "2"]}
    first, again = rows.candidates(raw(columns)).rows, rows.candidates(raw(columns)).rows
    assert isinstance(first, DigestedRows)
    assert isinstance(again, DigestedRows)
    assert list(first.digests) == list(again.digests)
    assert [*first] == [*again] == [again[-2], again[1]] == again[:]
    assert list(row_digests([*again])) == list(again.digests)


def test_a_changed_value_changes_its_row_alone() -> None:
    rows = ColumnRows("ad_id")
    before = rows.candidates(raw({"ad_id": ["a", "b", "c"], "x": [1, 2, 3]})).rows
    after = rows.candidates(raw({"ad_id": ["a", "b", "c"], "x": [1, 5, 3]})).rows
    assert before is not None
    assert after is not None
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
    assert rows.candidates(raw({"ad_id": ["a", "b", "c"], "x": [7, 8, 9]})).columns is not None


def test_columns_without_a_feature_are_not_read() -> None:
    rows = ColumnRows("ad_id", frozenset({"x"}))
    found = rows.candidates(raw({"ad_id": ["a"], "x": [1], "other": ["b", "c"]}))
    assert columns_of(found, ["ad_id", "x"]) == {"ad_id": ["a"], "x": [1]}


@pytest.mark.parametrize("ad_id", ["ad.id", "ids[0]"])
def test_with_a_nested_ad_id_the_columns_are_values(ad_id: str) -> None:
    assert ColumnRows(ad_id).candidates(raw({"ad": {"id": ["a"]}, "ids": ["a"]})).rows is None


def test_a_column_that_is_not_json_is_named() -> None:
    columns = msgspec.json.decode(b'{"ad_id": ["a"], "x": ["\xff"], "y": [1, 2]}', type=dict[str, msgspec.Raw])
    with pytest.raises(ValueError, match="x: not valid JSON"):
        ColumnRows("ad_id").candidates(columns)


def test_by_id_few_columns_are_values() -> None:
    columns: dict[str, object] = {key: ["x", "y"] for key in ("ad_id", "a", "b", "c")}
    rows = ColumnRows("ad_id", by_id=True)
    assert rows.candidates(raw(columns)).columns == columns
    assert rows.candidates(raw({**columns, "d": [1, 2]})).rows is not None
