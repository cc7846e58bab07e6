"""A log's columns have the values, and so the encoded bits, of the same values in a request's JSON."""

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.preparation.json_values import json_values
from streamer.features import Encoder, FeatureSpec
from streamer.types import BidRequest

_COMMON = {"side": "candidate", "path": "x", "wide": True}
_ENCODER = Encoder(
    FeatureSpec.from_mapping(
        {
            "name": "types",
            "embedding_dim": 1,
            "features": [
                {"name": "u", "path": "u", "side": "user", "kind": "categorical", "buckets": 2, "wide": True},
                {"name": "text", "kind": "categorical", "buckets": 2**29, **_COMMON},
                {"name": "list", "kind": "multi_valued", "buckets": 2**29, "max_values": 3, **_COMMON},
                {"name": "bucket", "kind": "bucketised", "boundaries": [0.1, 0.5, 1e18], **_COMMON},
                {"name": "number", "kind": "numeric", "clip": 1e30, **_COMMON},
            ],
        }
    )
)
_NUMBERS = frozenset({"bucket", "number"})

CASES: list[tuple[pa.DataType, list[Any], str]] = [
    (pa.int8(), [-128, None], "[-128, null]"),
    (pa.int16(), [32767], "[32767]"),
    (pa.int32(), [-(2**31)], "[-2147483648]"),
    (pa.int64(), [2**63 - 1, 2**53 + 1], "[9223372036854775807, 9007199254740993]"),
    (pa.float32(), [0.1, 3.0, 3.4028235e38, float("nan"), float("inf")], "[0.1, 3, 3.4028235e38, null, null]"),
    (pa.float64(), [0.1, -0.0, 1e300, float("nan"), float("-inf")], "[0.1, -0.0, 1e300, null, null]"),
    (pa.decimal128(10, 2), [Decimal("1.50"), Decimal("3.00"), None], "[1.5, 3, null]"),
    (pa.decimal128(20, 0), [Decimal(2**64 - 1), Decimal(10**19)], "[18446744073709551615, 10000000000000000000]"),
    (pa.decimal128(38, 18), [Decimal("0.1"), Decimal("1e19")], "[0.1, 1e19]"),
    (pa.string(), ["18.0", "", "é", None], '["18.0", "", "é", null]'),
    (pa.bool_(), [True, False, None], "[true, false, null]"),
    (pa.list_(pa.float32()), [[0.1, None], [], [float("nan"), 0.7], None], "[[0.1, null], [], [null, 0.7], null]"),
    (pa.list_(pa.decimal128(5, 1)), [[Decimal("1.5")]], "[[1.5]]"),
    (pa.list_(pa.bool_()), [[True, False]], "[[true, false]]"),
    (pa.list_(pa.string()), [["a", None, "b"]], '[["a", null, "b"]]'),
]


def _of_the_log(column: pa.Array) -> list[tuple[bytes, ...]]:
    names = ("text", "list", "bucket", "number")
    columns = {name: json_values(column, keep_infinite=name in _NUMBERS) for name in names}
    ids, floats = _ENCODER.encode_table(columns, len(column))
    return [(i.tobytes(), f.tobytes()) for i, f in zip(ids, floats, strict=True)]


def _served(text: bytes) -> list[tuple[bytes, ...]]:
    rows = [orjson.dumps({"ad_id": "a", "x": value}) for value in orjson.loads(text)]
    ids, floats = _ENCODER.flat_rows(_ENCODER.encode(BidRequest("r", {}, len(rows), rows=rows)))
    return [(i.tobytes(), f.tobytes()) for i, f in zip(ids, floats, strict=True)]


@pytest.mark.parametrize(("kind", "values", "text"), CASES, ids=lambda case: str(case) if case else None)
def test_each_type_has_the_bits_of_its_json(kind: pa.DataType, values: list[Any], text: str) -> None:
    assert _of_the_log(pa.array(values, kind)) == _served(text.encode())


@settings(max_examples=20)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_any_float32_is_the_number_that_json_writers_write(values: list[float]) -> None:
    numbers = np.array(values, np.float32)
    text = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
    assert _of_the_log(pa.array(numbers)) == _served(text)


def test_values_without_a_json_form_are_left_alone() -> None:
    assert json_values(pa.array([date(2014, 10, 22)])) == [date(2014, 10, 22)]
    assert json_values(pa.array([float("inf")], pa.float32()), keep_infinite=True) == [float("inf")]
