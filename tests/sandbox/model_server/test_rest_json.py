"""Tensors from the JSON of `:predict`."""

from typing import Any

import numpy as np
import pytest

from sandbox.model_server.lean_tensorflow import lean_tensorflow
from sandbox.model_server.status import StatusError

with lean_tensorflow():
    from sandbox.model_server.rest_json import by_rows, column_tensors, row_tensors

FLOAT, DOUBLE, INT32, UINT8, INT8, STRING, INT64, BOOL, UINT16, UINT64 = 1, 2, 3, 4, 6, 7, 9, 10, 17, 23
_FOUR = {"i": INT64, "d": DOUBLE, "b": BOOL, "s": STRING}


def _rejected(read: Any, *arguments: object) -> str:
    with pytest.raises(StatusError) as failed:
        read(*arguments)
    return failed.value.message


def test_rows_of_the_only_input() -> None:
    arrays = row_tensors([[1, 2.5], [3, 1e39]], {"x": FLOAT})
    assert arrays["x"].dtype == np.float32
    assert arrays["x"].tolist() == [[1.0, 2.5], [3.0, np.inf]]
    assert row_tensors([[], []], {"x": FLOAT})["x"].shape == (2, 0)


def test_rows_of_objects_and_columns_give_the_same_arrays() -> None:
    rows = [{"i": 2**53 + 1, "d": 0.1, "b": True, "s": "é"}, {"i": -(2**63), "d": 1, "b": False, "s": {"b64": "/w"}}]
    columns = {name: [row[name] for row in rows] for name in _FOUR}
    for arrays in (row_tensors(rows, _FOUR), column_tensors(columns, _FOUR)):
        assert {name: array.tolist() for name, array in arrays.items()} == {
            "i": [2**53 + 1, -(2**63)],
            "d": [0.1, 1.0],
            "b": [True, False],
            "s": ["é".encode(), b"\xff"],
        }


@pytest.mark.parametrize(
    ("dtype", "value", "result"), [(INT8, [300], 44), (UINT8, [-1], 255), (UINT64, [2**64 - 1], 2**64 - 1)]
)
def test_small_integers_keep_their_low_bits(dtype: int, value: object, result: int) -> None:
    assert column_tensors(value, {"x": dtype})["x"].tolist() == [result]


def test_a_column_may_be_a_scalar_and_may_have_more_names() -> None:
    assert column_tensors(2, {"x": FLOAT})["x"].shape == ()
    assert column_tensors({"x": [2], "y": "unused"}, {"x": FLOAT})["x"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        ([1.0], INT64, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        ([2**63], INT64, f"JSON Value: {2**63} Type: Number is not of expected type: int64"),
        ([2**31], INT32, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ([-1], UINT64, "JSON Value: -1 Type: Number is not of expected type: uint64"),
        ([1, True], FLOAT, "JSON Value: true Type: True is not of expected type: float"),
        ([None], FLOAT, "JSON Value: null Type: Null is not of expected type: float"),
        ([1], BOOL, "JSON Value: 1 Type: Number is not of expected type: bool"),
        (["a", 5], STRING, "JSON Value: 5 Type: Number is not of expected type: string"),
        ([{"b64": "***"}], STRING, "Unable to base64 decode"),
        ([{"b64": 5}], STRING, 'JSON Value: {\n    "b64": 5\n} not formatted correctly for base64 data'),
        ([65535], UINT16, "Conversion of JSON Value: 65535 to type: uint16"),
        ([[1], [1, 2]], FLOAT, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ([1, [2]], FLOAT, "Encountered list at unexpected level: 1 expected < 1"),
        ([[1], 2], FLOAT, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ],
)
def test_a_wrong_column_is_rejected(value: object, dtype: int, reason: str) -> None:
    assert _rejected(column_tensors, value, {"x": dtype}) == reason


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[1], [1, 2]], "1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2"),
        ([[1], 2], "1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [1] but got: []"),
        (
            [{"x": 1}, {"zz": 1}],
            "1 key: zz of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: zz",
        ),
    ],
)
def test_a_wrong_row_is_named(rows: list[Any], reason: str) -> None:
    assert _rejected(row_tensors, rows, {"x": FLOAT}) == f"Failed to process element: {reason}"


def test_rows_are_all_objects_or_all_values() -> None:
    objects, values = [{"x": 1}, 1], [1, {"x": 1}]
    assert "Expecting object but got list at item 1 of" in _rejected(row_tensors, objects, {"x": FLOAT})
    assert "Expecting value/list but got object at item 1 of" in _rejected(row_tensors, values, {"x": FLOAT})
    assert "expecting list of objects as multiple input" in _rejected(row_tensors, [1], _FOUR)
    assert "keys must be equal to: b,d,i,s" in _rejected(row_tensors, [{"i": 1}], _FOUR)


def test_a_missing_column_is_named() -> None:
    assert _rejected(column_tensors, {"b": [], "d": [], "i": []}, _FOUR) == "Missing named input: s in 'inputs' object."
    assert "expecting an object as multiple" in _rejected(column_tensors, [1], _FOUR)


def test_a_body_has_instances_or_inputs() -> None:
    assert by_rows({"instances": [1]})
    assert not by_rows({"inputs": []})
    bodies: list[dict[str, Any]] = [{}, {"instances": [1], "inputs": [1]}, {"instances": 5}, {"instances": []}]
    assert all(_rejected(by_rows, body) for body in bodies)
