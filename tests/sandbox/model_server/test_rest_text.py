"""JSON of REST answers: numbers, strings, layout."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.model_server.rest_text import columns, encoded, error_text, json_text, number_texts, quoted, rows
from sandbox.model_server.status import StatusError


def _objects(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (2.5, "2.5"),
        (3.0, "3.0"),
        (-0.0, "-0.0"),
        (5e7, "5e+07"),
        (6.1728397e18, "6.1728397e+18"),
        (12345678.0, "12345678.0"),
        (2.16666675, "2.16666675"),
        (4.99486923e-05, "4.99486923e-05"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_a_float_has_six_digits_or_all_of_them(value: float, text: str) -> None:
    assert number_texts(np.array([value], np.float32)) == [text]


def test_a_double_has_six_digits_or_seventeen() -> None:
    array = np.array([0.1, 1e300, 3.141592653589793, 1e-7])
    assert number_texts(array) == ["0.1", "1e+300", "3.1415926535897931", "1e-07"]


@settings(max_examples=30)
@given(st.lists(st.floats(width=32), max_size=20))
def test_texts_restore_the_floats(values: list[float]) -> None:
    array = np.array(values, np.float32)
    restored = np.array([float(text.replace("Infinity", "inf")) for text in number_texts(array)], np.float32)
    np.testing.assert_array_equal(restored, array)


def test_integers_and_booleans() -> None:
    assert number_texts(np.array([2**64 - 1], np.uint64)) == ["18446744073709551615"]
    assert number_texts(np.array([[1, -2]], np.int8)) == ["1", "-2"]
    assert number_texts(np.array([True, False])) == ["true", "false"]


def test_a_string_keeps_all_but_quotes_backslashes_and_controls() -> None:
    text = b'\x00\x1f\t"\\/\x7f\xe2\x80\xa8 \xff'.decode("utf-8", "surrogateescape")
    assert encoded(quoted(text)) == b'"\\u0000\\u001F\\t\\"\\\\/\x7f\xe2\x80\xa8 \xff"'


def test_an_error_is_an_object_on_three_lines() -> None:
    assert error_text('a "b"') == '{\n    "error": "a \\"b\\""\n}'


def test_rows_of_one_output_are_on_one_line() -> None:
    assert rows({"y": np.array([[1.0], [2.0]], np.float32)}) == '{\n    "predictions": [[1.0], [2.0]\n    ]\n}'
    assert rows({"y": np.zeros((2, 0), np.float32)}) == '{\n    "predictions": [[], []\n    ]\n}'
    assert rows({"y": np.zeros((0, 2), np.float32)}) == '{\n    "predictions": []\n}'
    assert rows({"y": np.zeros(0), "z": np.zeros(0)}) == '{\n    "predictions": []\n}'


def test_rows_of_several_outputs_are_objects() -> None:
    outputs = {"a": np.array([1, 2]), "b_bytes": _objects(b"\0\1\xff", b"a")}
    assert rows(outputs) == (
        '{\n    "predictions": [\n        {\n            "a": 1,\n            "b_bytes": {\n'
        '                "b64": "AAH/"\n            }\n        },\n        {\n            "a": 2,\n'
        '            "b_bytes": {\n                "b64": "YQ=="\n            }\n        }\n    ]\n}'
    )


def test_rows_need_one_batch_size() -> None:
    with pytest.raises(StatusError, match="Tensor name: b has inconsistent batch size: 4 expecting: 2"):
        rows({"a": np.zeros(2), "b": np.zeros(4)})
    with pytest.raises(StatusError, match="Tensor name: b has no shape information"):
        rows({"a": np.zeros(2), "b": np.zeros(())})


def test_columns_have_one_value_on_a_line() -> None:
    assert columns({"y": np.array(3.0)}) == '{\n    "outputs": 3.0\n}'
    assert columns({"y": np.zeros((0, 1))}) == '{\n    "outputs": []\n}'
    assert columns({"y": np.array([[3.0]])}) == ('{\n    "outputs": [\n        [\n            3.0\n        ]\n    ]\n}')
    assert columns({"s": _objects(b"a"), "x_bytes": _objects(b"a")}) == (
        '{\n    "outputs": {\n        "s": [\n            "a"\n        ],\n        "x_bytes": [\n            {\n'
        '                "b64": "YQ=="\n            }\n        ]\n    }\n}'
    )


def test_a_type_without_json_is_rejected() -> None:
    with pytest.raises(StatusError, match="Failed to write JSON value for tensor type: uint16"):
        columns({"y": np.zeros(1, np.uint16)})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        (3.141592653589793, "3.14159274"),
        (1e300, "1e+300"),
        ([1.5, 1e21, 1e-7, 100.0, 0.00001, -0.0, 3.141592653589793], None),
        ([{"x": 1.0}], '[{\n        "x": 1.0\n    }]'),
        ({"a": [], "b": {}, "c": None}, '{\n    "a": [],\n    "b": {},\n    "c": null\n}'),
    ],
)
def test_a_value_in_an_error_is_laid_out_as_by_rapidjson(value: object, text: str | None) -> None:
    assert json_text(value) == (text or "[1.5, 1e21, 1e-7, 100.0, 0.00001, -0.0, 3.141592653589793]")


@settings(max_examples=50)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_inside_a_value_is_restored(value: float) -> None:
    assert struct.pack("d", float(json_text([value])[1:-1])) == struct.pack("d", value)
