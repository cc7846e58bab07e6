"""Columns give the candidates that a JSON parser would read, whatever was remembered before."""

import time

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import native
from streamer.features.candidate_rows import DigestedRows, row_digests
from streamer.formats.candidates import Candidates
from streamer.formats.column_cutter import NativeColumnCutter, PythonColumnCutter
from streamer.formats.column_rows import ColumnRows

values = st.sampled_from(["a", "b", "a,b", 'q"', "x\\", "", 1, 1.5, True, None, [], ["a"], ["a", "b"], {"k": "a"}])
needs_native = pytest.mark.skipif(native.module is None, reason="the compiled code is not used")
cutters = pytest.mark.parametrize("cutter", [PythonColumnCutter, pytest.param(NativeColumnCutter, marks=needs_native)])
Cutter = type[PythonColumnCutter | NativeColumnCutter]
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


def error_of(found: Candidates, names: list[str]) -> str:
    with pytest.raises(ValueError, match="") as error:
        columns_of(found, names)
    return str(error.value)


@settings(max_examples=150, deadline=None)
@given(some=requests, max_bytes=st.sampled_from([0, 700, 10_000]), indent=st.booleans())
def test_the_values_are_those_of_a_parser(some: list[dict[str, object]], max_bytes: int, indent: bool) -> None:
    cutter = PythonColumnCutter(max_bytes)
    rows = ColumnRows("ad_id", cutter=cutter)
    for columns in [*some, *some]:
        candidates = rows.candidates(raw(columns, indent=indent))
        lengths = {len(column) for column in columns.values() if isinstance(column, list)}
        if len(lengths) == 1 or candidates.columns is not None:
            assert orjson.dumps(columns_of(candidates, list(columns))) == orjson.dumps(columns)
        else:
            assert error_of(candidates, list(columns)) == "expected columns with one valid value for each ad id"
        assert cutter.used_bytes <= max_bytes


@needs_native
@settings(max_examples=300, deadline=None)
@given(some=requests, indent=st.booleans())
def test_compiled_code_cuts_the_same_rows(some: list[dict[str, object]], indent: bool) -> None:
    compiled, python = (ColumnRows("ad_id", cutter=cutter()) for cutter in (NativeColumnCutter, PythonColumnCutter))
    for columns in [*some, *some]:
        texts = raw(columns, indent=indent)
        ours, theirs = compiled.candidates(texts), python.candidates(texts)
        assert outcome_of(ours, list(columns)) == outcome_of(theirs, list(columns))
        # Rows that change from request to request are remembered sooner by the compiled form.
        if ours.rows is not None and theirs.rows is not None:
            assert list(ours.rows) == list(theirs.rows)
            assert list(row_digests(ours.rows)) == list(row_digests(theirs.rows))


@needs_native
@pytest.mark.parametrize("t", [b'["p,q"]', b'["p"]', b'["p,\xff"]'])
@pytest.mark.parametrize("x", [b"1" + b"0" * 400, b"1E400", b'"1e999"', b"9" * 5000])
def test_a_number_beyond_a_float_has_one_outcome(t: bytes, x: bytes) -> None:
    text = b'{"ad_id":["a"],"t":%b,"x":[%b]}' % (t, x)
    texts = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    assert outcome(texts, NativeColumnCutter) == outcome(texts, PythonColumnCutter)


@cutters
def test_ads_that_changed_once_are_rows_again(cutter: Cutter) -> None:
    rows = ColumnRows("ad_id", cutter=cutter())
    before, after = ({"ad_id": ["a", "b", "c"], "x": values} for values in ([1, 2, 3], [7, 8, 9]))
    assert rows.candidates(raw(before)).rows is not None
    assert rows.candidates(raw(after)).rows is None
    assert any(rows.candidates(raw(after)).rows is not None for _ in range(16))


@cutters
def test_one_ad_may_have_many_columns(cutter: Cutter) -> None:
    columns: dict[str, object] = {"ad_id": ["a"], **{f"x{i}": [i] for i in range(40)}}
    found = ColumnRows("ad_id", cutter=cutter()).candidates(raw(columns))
    assert found.rows is not None
    assert columns_of(found, list(columns)) == columns


damages = st.tuples(
    st.integers(0, 400),
    st.integers(0, 3),
    st.binary(max_size=3) | st.sampled_from(list(b'",[]{}:\\ ')).map(lambda byte: bytes([byte])),
)


@needs_native
@settings(max_examples=300, deadline=None)
@given(columns=requests.map(lambda some: some[0]), damage=damages)
def test_damaged_columns_have_the_same_outcome(columns: dict[str, object], damage: tuple[int, int, bytes]) -> None:
    whole = orjson.dumps(columns)
    at, cut, put = damage
    at %= len(whole)
    try:
        texts = msgspec.json.decode(whole[:at] + put + whole[at + cut :], type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return
    assert outcome(texts, NativeColumnCutter) == outcome(texts, PythonColumnCutter)


def outcome(texts: dict[str, msgspec.Raw], cutter: Cutter) -> object:
    """The columns, or why they are rejected here or by the encoder, which reads each row."""
    try:
        return outcome_of(ColumnRows("ad_id", cutter=cutter()).candidates(texts), list(texts))
    except ValueError as error:
        return str(error)


def outcome_of(found: Candidates, names: list[str]) -> object:
    try:
        return repr(columns_of(found, names))
    except ValueError as error:
        return str(error)


@needs_native
@settings(max_examples=300, deadline=None)
@given(
    columns=st.lists(
        st.binary(max_size=20) | st.text('",[]{}\\a1 ', max_size=12).map(lambda t: f"[{t}]".encode()),
        min_size=1,
        max_size=3,
    )
)
def test_text_that_is_no_json_does_no_harm(columns: list[bytes]) -> None:
    rows = NativeColumnCutter().rows(b"prefix", columns, len(columns) - 1)
    if rows is not None:
        values = sum(len(column) - 2 for column in columns)  # with the commas between them
        assert sum(len(row.removeprefix(b"prefix")) for row in rows) == values + len(columns) - len(rows)


@cutters
def test_a_known_ad_has_the_digest_of_its_row(cutter: Cutter) -> None:
    rows = ColumnRows("ad_id", cutter=cutter())
    columns: dict[str, object] = {"ad_id": ["a", "b"], "x": ["1", "2"]}
    first, again = rows.candidates(raw(columns)).rows, rows.candidates(raw(columns)).rows
    assert isinstance(first, DigestedRows)
    assert isinstance(again, DigestedRows)
    assert list(first.digests) == list(again.digests)
    assert [*first] == [*again] == [again[-2], again[1]] == again[:]
    assert list(row_digests([*again])) == list(again.digests)


@cutters
def test_a_changed_value_changes_its_row_alone(cutter: Cutter) -> None:
    rows = ColumnRows("ad_id", cutter=cutter())
    before = rows.candidates(raw({"ad_id": ["a", "b", "c"], "x": [1, 2, 3]})).rows
    after = rows.candidates(raw({"ad_id": ["a", "b", "c"], "x": [1, 5, 3]})).rows
    assert before is not None
    assert after is not None
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
    assert rows.candidates(raw({"ad_id": ["a", "b", "c"], "x": [7, 8, 9]})).columns is not None
    assert rows.candidates(raw({"x": [7, 8, 9], "ad_id": ["a", "b", "c"]})).rows is not None


@cutters
@pytest.mark.parametrize("empty", ["[]", "[ ]", "null", "{}", '"a"', "[1,2]"])
def test_a_column_of_another_length_gives_values(cutter: Cutter, empty: str) -> None:
    rows = ColumnRows("ad_id", cutter=cutter())
    for ad_id, x in (('["a"]', empty), (empty, "[[]]")):
        texts = msgspec.json.decode(f'{{"ad_id": {ad_id}, "x": {x}}}', type=dict[str, msgspec.Raw])
        expected = {"ad_id": orjson.loads(ad_id), "x": orjson.loads(x)}
        assert [rows.candidates(texts).columns for _ in range(2)] == [expected] * 2


@cutters
def test_many_candidates_are_cut_soon(cutter: Cutter) -> None:
    n = 100_000
    columns: dict[str, object] = {"ad_id": [f"ad{i}" for i in range(n)], "x": list(range(n)), "y": ["\\" * 9] * n}
    texts, rows = raw(columns), ColumnRows("ad_id", cutter=cutter())
    start = time.process_time()
    found = rows.candidates(texts)
    assert time.process_time() - start < 5
    assert found.rows is not None
    assert found.read_row is not None
    assert found.read_row(found.rows[-1]) == {"ad_id": f"ad{n - 1}", "x": n - 1, "y": "\\" * 9}


@needs_native
def test_the_compiled_cutter_checks_its_arguments() -> None:
    cutter = NativeColumnCutter()
    with pytest.raises(ValueError, match="no such column"):
        cutter.rows(b"", [b"[1]"], 1)
    rows = cutter.rows(b"", [b'["1"]'], 0)
    assert rows is not None
    with pytest.raises(IndexError):
        rows[1]


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
