"""The values of a log's columns as a request in JSON has them."""

from decimal import Decimal
from math import isfinite

import pyarrow as pa
import pyarrow.types as kinds


def json_values(column: pa.Array, *, keep_infinite: bool = False) -> list[object]:
    """The values of a column of scalars or of lists of them, one for each row.

    A float32 is the number of its shortest text, 0.1, and not the double 0.10000000149011612. A decimal without
    fractional digits is an integer, any other one the nearest double. JSON has neither NaN nor infinity: they are
    missing.

    Args:
        keep_infinite: keep NaN and infinity outside lists, for a feature that counts them itself.
    """
    kind = column.type.value_type if kinds.is_list(column.type) else column.type
    if kinds.is_float32(kind):
        text, double = pa.string(), pa.float64()
        if kinds.is_list(column.type):
            text, double = pa.list_(text), pa.list_(double)
        column = column.cast(text).cast(double)
    values: list[object] = column.to_pylist()
    if kinds.is_decimal(kind) or (kinds.is_floating(kind) and not keep_infinite):
        return list(map(_json_value, values))
    if kinds.is_floating(kind):
        return [_json_value(value) if isinstance(value, list) else value for value in values]
    return values


def _json_value(value: object) -> object:
    if isinstance(value, list):
        return list(map(_json_value, value))
    if isinstance(value, Decimal):
        return float(value) if value.as_tuple().exponent < 0 else int(value)  # type: ignore[operator]
    return None if isinstance(value, float) and not isfinite(value) else value
