"""The schema of a request and the scorer agree on what can be scored."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.codec import Codec
from streamer.errors import InvalidRequestError
from streamer.features import Encoder, FeatureSpec
from streamer.settings.sections import CodecSettings
from streamer.types import BadRecord, Header
from tests.docs.worked_examples import ROOT
from tests.streamer.bad_records import BAD_RECORDS, shown
from tests.streamer.schemas.validation import faults, validator
from tests.streamer.specs import candidates, small_spec, values

SPEC = small_spec()
ENCODER = Encoder(SPEC)
CODEC = Codec(CodecSettings(), SPEC.request, SPEC.document_keys, SPEC.containers, candidate_keys=SPEC.candidate_keys)
HEADERS: list[Header] = [("request_id", b"of the header")]

ROWS: dict[str, Any] = {
    "request_id": "r1",
    "deadline_ms": 30,
    "model": "ctr",
    "user": {"id": "u1", "sex": "f", "likes": ["x", 3], "age": 20},
    "context": {"hour": 7, "pace": 0.5},
    "candidates": [{"ad_id": "a", "campaign": "c", "tags": ["t"], "bid": 1, "banner": {"size": 5}}, {"ad_id": "b"}],
}
COLUMNS = {
    **ROWS,
    "candidates": {"ad_id": ["a", "b"], "campaign": ["c", None], "bid": [1, 2], "banner": {"size": [3, 4]}},
}


def rejection(document: object) -> str | None:
    """Why the scorer answers `invalid`; None if it scores the request."""
    request = CODEC.decode(json.dumps(document).encode(), HEADERS)
    if isinstance(request, BadRecord):
        return request.reason
    try:
        ENCODER.encode(request)
    except InvalidRequestError as error:
        return str(error)
    return None


def places(document: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all values in a document."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def changed(document: Any, place: tuple[str | int, ...], value: object) -> Any:
    """The document with another value in one place."""
    if not place:
        return value
    copy = deepcopy(document)
    at = copy
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return copy


VALUES: list[Any] = [
    *(None, True, 0, -1, 0.5, 31, 2**70, "", "a", "30", "x,y"),
    *([], [None], ["a"], [1], ["a", "b"], [1, 2], [["a"], ["b"]], ["", "b"], [{}, {}], ["a", "b", "c"]),
    *({}, {"a": 1}, {"ad_id": "a"}, {"ad_id": ["a"]}, {"size": [1, 2]}),
]
"""Scalars, and lists of the right and of wrong lengths."""

columns = st.fixed_dictionaries({"ad_id": values}, optional={"bid": values, "banner": values, "x": values})
documents = st.fixed_dictionaries(
    {},
    optional={
        "request_id": values,
        "deadline_ms": values,
        "model": values,
        "user": st.fixed_dictionaries({}, optional={"id": values, "likes": values, "age": values}) | values,
        "context": values,
        "candidates": st.lists(candidates | values, max_size=3) | columns,
    },
)


def lengths(columns: object) -> set[int]:
    """The lengths of all columns."""
    if isinstance(columns, Mapping):
        return {length for column in columns.values() for length in lengths(column)}
    return {len(columns)} if isinstance(columns, list) else set()


def tolerated(path: list[str | int]) -> bool:
    """Whether the scorer accepts values at this path that the schema rejects."""
    match path:
        # A value of another type counts as missing, or as the number that its text or its only item is.
        case ["user" | "context", _, *_]:
            return True
        case ["candidates", int(), key, *_]:
            return key != "ad_id"
        # A column that no feature reads may be anything.
        case ["candidates", str(key), *_]:
            return key != "ad_id"
        # The text of a number, or a list of one number.
        case ["deadline_ms"]:
            return True
    return False


def agreed(document: object) -> tuple[bool, bool]:
    """Whether the schema and the scorer accept a document.

    The scorer accepts what the schema accepts, and more in known places only.
    """
    errors, found = list(validator("request", SPEC).iter_errors(document)), rejection(document)
    if found is None:
        more = [list(leaf.absolute_path) for error in errors for leaf in leaves(error, document)]
        assert [path for path in more if not tolerated(path)] == []
    elif not errors:
        # JSON Schema cannot say that columns are equally long.
        assert isinstance(document, dict)
        assert isinstance(document["candidates"], dict)
        assert len(lengths(document["candidates"])) > 1, found
    return not errors, found is None


def leaves(error: Any, document: Any) -> list[Any]:
    """The errors of the form, rows or columns, that the candidates have."""
    if error.validator != "oneOf":
        return [error]
    form = 0 if isinstance(document["candidates"], list) else 1
    return [inner for inner in error.context if inner.schema_path[0] == form]


@pytest.mark.parametrize("document", [ROWS, COLUMNS], ids=["rows", "columns"])
def test_the_schema_and_the_scorer_agree(document: object) -> None:
    """On a request with each of many values in each place."""
    assert faults("request", document, SPEC) == []
    verdicts = {agreed(changed(document, place, value)) for place in places(document) for value in VALUES}
    assert verdicts >= {(True, True), (False, True), (False, False)}


@pytest.mark.slow
@settings(max_examples=2_000)
@given(documents)
def test_the_schema_and_the_scorer_agree_on_any_document(document: object) -> None:
    agreed(document)


def test_the_schema_rejects_bad_records() -> None:
    """Those that are JSON. It does not know the bound of bytes."""
    for value, _, _ in BAD_RECORDS:
        try:
            document = orjson.loads(value[: CodecSettings().max_record_bytes])
        except orjson.JSONDecodeError:
            continue
        assert not validator("request", SPEC).is_valid(document), shown(value)


def test_an_id_may_be_in_the_headers() -> None:
    without = {key: value for key, value in ROWS.items() if key != "request_id"}
    assert faults("request", without, SPEC) == []
    assert rejection(without) is None


@settings(max_examples=50)
@given(
    st.sampled_from(["1", "30", "0.5", "12.50", "007", "0", "0.0", "-1", "", "1e3", "inf", "nan", "soon", "1_0", "٣"])
    | st.floats(allow_nan=False).map(str)
    | st.integers(-10, 10**6).map(str)
)
def test_a_deadline_in_the_headers(text: str) -> None:
    """The codec also takes exponents, signs and spaces; an empty header counts as absent."""
    value = orjson.dumps({"request_id": "r", "candidates": [{"ad_id": "a"}]})
    accepted = not isinstance(CODEC.decode(value, [("deadline_ms", text.encode())]), BadRecord)
    if not faults("request-headers", {"deadline_ms": text}):
        assert accepted


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["ad_id", "campaign", "tags", "bid", "banner"]), values) | values)
def test_the_records_of_ads(document: object) -> None:
    """JSON Schema cannot say that an ad id in the record is its key."""
    if not faults("ad", document, SPEC):
        assert isinstance(document, dict)
        key = document.get("ad_id") or "a"
        assert ENCODER.row_form().document(key.encode(), json.dumps(document).encode())["ad_id"] == key


@pytest.mark.parametrize("path", sorted((ROOT / "configs/features").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schemas_of_each_spec_are_schemas(path: Path) -> None:
    spec = FeatureSpec.from_yaml(path)
    for name in ("request", "ad"):
        found = validator(name, spec)
        found.check_schema(found.schema)
