"""JSON of REST requests, and RapidJSON's error texts."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.model_server import rest_parse
from sandbox.model_server.rest_parse import parse
from sandbox.model_server.status import StatusError

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    # JSON's integers are 64 bits; longer ones are read as decimals.
    | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"hello", "Invalid value. at offset: 0"),
        (b"nulx", "Invalid value. at offset: 3"),
        (b'{"a":[[2.0]', "Missing a comma or ']' after an array element. at offset: 11"),
        (b"{'a':1}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":[1,]}', "Invalid value. at offset: 8"),
        (b'{"a":1 /* c */}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'{"a":1e400}', "Number too big to be stored in double. at offset: 5"),
        (b'{"a":1.}', "Miss fraction part in number. at offset: 7"),
        (b'{"a":1e+}', "Miss exponent in number. at offset: 8"),
        (b'{"a":-}', "Invalid value. at offset: 6"),
        (b'{"a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'{"a\n":1}', "Invalid encoding in string. at offset: 3"),
        (b'{"a\\x":1}', "Invalid escape character in string. at offset: 3"),
        (b'{"\\u00g0":1}', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'{"\\ud800":1}', "The surrogate pair in string is invalid. at offset: 2"),
        (b"[" * 5000, "Lists are nested too deeply."),
    ],
)
def test_a_broken_body_has_the_reason_and_its_place(body: bytes, reason: str) -> None:
    with pytest.raises(StatusError) as failed:
        parse(body)
    assert failed.value.message.startswith(f"JSON Parse error: {reason}")


def test_only_an_object_is_a_request() -> None:
    with pytest.raises(StatusError) as failed:
        parse(b"[1,2]")
    assert failed.value.message == "JSON Value: [1, 2] Is not object"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf{"a":[1]}', [1]),
        (b' {"a":1} x', 1),
        (b'{"a":[-Infinity,Inf],"b":0} ', [-math.inf, math.inf]),
        (b'{"a":"\xff\\u00e9\\ud83d\\ude00"}', "\udcff\u00e9\U0001f600"),
        (b'{"a":[18446744073709551616,-0, 1E2 ,true,null,{}]} x', [2.0**64, 0, 100.0, True, None, {}]),
        (b'{"a":1,"inputs":2,"inputs":3,"a":4}', 1),
    ],
)
def test_what_only_rapidjson_accepts_is_read(body: bytes, value: object) -> None:
    assert parse(body)["a"] == value


def test_nan_is_a_number_and_the_first_of_two_inputs_counts() -> None:
    assert math.isnan(parse(b'{"a":NaN}')["a"])
    assert parse(b'{"inputs":2,"inputs":3}') == {"inputs": 2}
    assert parse(b'{"inputs":{"inputs":2},"inputs":3}') == {"inputs": {"inputs": 2}}


def test_inputs_that_are_named_as_a_key_of_the_body_are_read_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rest_parse, "_Reader")
    body = {"instances": [{"inputs": 1.5}, {"inputs": 2.5}], "signature_name": "inputs"}
    assert parse(json.dumps(body).encode()) == body


@settings(max_examples=15)
@given(st.dictionaries(st.text(), _VALUES, max_size=5))
def test_both_readers_agree(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    assert parse(body) == parse(body + b" x") == value
