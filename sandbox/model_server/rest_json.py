"""Tensors of a `:predict` body, by the signature's inputs. Pure.

`instances` are rows, `inputs` columns. Lists of equal length and type become an array at once. Everything else is
walked value by value, in the order of TensorFlow Serving, which finds its error message.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2

from sandbox.model_server.rest_text import json_text
from sandbox.model_server.status import StatusError, invalid_argument
from sandbox.model_server.tensors import numpy_type

Arrays = dict[str, NDArray[Any]]

_INT32 = (-(2**31), 2**31 - 1)
_INTEGERS: Mapping[int, tuple[int, int]] = {
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
"""Least and greatest value in JSON of each integer type. A smaller type then keeps only its low bits."""
_MOST_DIMENSIONS = 64
_DECIMALS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)


def by_rows(body: Mapping[str, Any]) -> bool:
    """Whether a `:predict` body has `instances`; else it has `inputs`. Raises `StatusError`."""
    if "instances" not in body:
        if "inputs" not in body:
            raise invalid_argument("Missing 'inputs' or 'instances' key")
        return False
    if "inputs" in body:
        reason = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
    elif not isinstance(body["instances"], list):
        reason = "Expecting 'instances' to be an list/array"
    elif not body["instances"]:
        reason = "No values in 'instances' array"
    else:
        return True
    raise invalid_argument(f"JSON Value: {json_text(body)} {reason}")


def row_tensors(rows: Sequence[Any], types: Mapping[str, int]) -> Arrays:
    """Arrays [rows, …] of the inputs, whose data types are `types`. Raises `StatusError`.

    A row is an object with all inputs, or the value of a signature's only input.
    """
    names = sorted(types)
    if not isinstance(rows[0], dict) and len(names) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    try:
        if not _is_object(rows[0]):
            return {names[0]: _array(rows, types[names[0]])}
        if set(map(len, rows)) == {len(names)}:
            return {name: _array([row[name] for row in rows], types[name]) for name in names}
    except (_IrregularError, KeyError, TypeError):
        pass
    return _walked_rows(rows, types)


def column_tensors(value: object, types: Mapping[str, int]) -> Arrays:
    """Arrays of the inputs; the value of the only input needs no name. Raises `StatusError`."""
    if _is_object(value):
        found: Arrays = {}
        for name in sorted(types):
            if name not in value:  # type: ignore[operator]  # an object is a dict
                raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
            found[name] = _tensor(value[name], types[name])  # type: ignore[index]
        return found
    if len(types) > 1:
        raise invalid_argument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map"
        )
    (name,) = types
    return {name: _tensor(value, types[name])}


def decoded(value: Mapping[str, str]) -> bytes:
    """The bytes of `{"b64": …}`, with or without padding. Raises `StatusError`."""
    text = value["b64"].rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument("Unable to base64 decode") from None


def is_base64(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def json_type(value: object) -> str:
    """RapidJSON's name of a value's type."""
    if isinstance(value, bool):
        return str(value)
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


class _IrregularError(Exception):
    """Lists are not of equal length, or values are not of one type that fits."""


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _tensor(value: object, dtype: int) -> NDArray[Any]:
    try:
        return _array(value, dtype)
    except _IrregularError:
        shape = _shape(value)
        list(_leaves(value, dtype, shape, 0))
        raise invalid_argument("the value is not a tensor") from None


def _array(value: object, dtype: int) -> NDArray[Any]:
    """The array of a value that is regular. Raises `_IrregularError`."""
    flat: Sequence[Any] = [value]
    shape: list[int] = []
    while flat and (kinds := set(map(type, flat))) == {list}:
        sizes = set(map(len, flat))
        if len(sizes) > 1:
            raise _IrregularError
        shape.extend(sizes)
        flat = list(chain.from_iterable(flat))
    if len(shape) > _MOST_DIMENSIONS:
        raise invalid_argument(f"a tensor has at most {_MOST_DIMENSIONS} dimensions, not {len(shape)}")
    return _converted(flat, kinds if flat else set(), dtype).reshape(shape)


def _converted(flat: Sequence[Any], kinds: set[type], dtype: int) -> NDArray[Any]:
    target = numpy_type(dtype)
    if not flat:
        return np.empty(0, target)
    if dtype in _DECIMALS and kinds <= {float, int}:
        with np.errstate(over="ignore"):
            return np.array(flat, np.float64).astype(target, copy=False)
    if dtype == types_pb2.DT_BOOL and kinds == {bool}:
        return np.array(flat, target)
    if dtype == types_pb2.DT_STRING and kinds == {str}:
        return _objects([text.encode("utf-8", "surrogateescape") for text in flat])
    if dtype == types_pb2.DT_STRING and kinds <= {str, dict}:
        return _objects([_bytes(item) for item in flat])
    if dtype in _INTEGERS and kinds == {int}:
        least, greatest = _INTEGERS[dtype]
        try:
            array = np.array(flat, np.uint64 if dtype == types_pb2.DT_UINT64 else np.int64)
        except OverflowError:
            raise _IrregularError from None
        if least <= array.min() and array.max() <= greatest:
            return array.astype(target)
    raise _IrregularError


def _bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode("utf-8", "surrogateescape")
    if not is_base64(item):
        raise _IrregularError
    try:
        return decoded(item)
    except StatusError:
        raise _IrregularError from None


def _name(dtype: int) -> str:
    name: str = types_pb2.DataType.Name(dtype)
    return name.removeprefix("DT_").lower()


def _objects(values: list[bytes]) -> NDArray[Any]:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def _walked_rows(rows: Sequence[Any], types: Mapping[str, int]) -> Arrays:
    """Raises the error of the first row that is wrong."""
    shapes: dict[str, tuple[int, list[int]]] = {}
    objects = _is_object(rows[0])
    names = sorted(types)
    for number, row in enumerate(rows):
        where = f"Failed to process element: {number}"
        if objects is not _is_object(row):
            wanted, got = ("object", "list") if objects else ("value/list", "object")
            raise invalid_argument(f"Expecting {wanted} but got {got} at item {number} of input list")
        for name, value in row.items() if objects else [(names[0], row)]:
            key = f" key: {name}" if objects else ""
            try:
                _check_item(value, name, types, shapes)
            except StatusError as error:
                raise invalid_argument(f"{where}{key} of 'instances' list. Error: {error}") from None
        if objects and row.keys() != types.keys():
            raise invalid_argument(
                f"{where} of 'instances' list. JSON object: {json_text(row)} keys must be equal to: {','.join(names)}"
            )
    raise invalid_argument("instances are not a tensor")


def _check_item(value: object, name: str, types: Mapping[str, int], shapes: dict[str, tuple[int, list[int]]]) -> None:
    if name not in types:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape = _shape(value)
    size = sum(1 for _ in _leaves(value, types[name], shape, 0))
    first_size, first_shape = shapes.setdefault(name, (size, shape))
    if size != first_size:
        raise invalid_argument(f"Expecting tensor size: {first_size} but got: {size}")
    if shape != first_shape:
        raise invalid_argument(f"Expecting shape {_listed(first_shape)} but got: {_listed(shape)}")


def _listed(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _shape(value: object) -> list[int]:
    """The lengths of the first lists."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _leaves(value: object, dtype: int, shape: Sequence[int], level: int) -> Iterator[object]:
    """The single values of a tensor. Raises `StatusError` at the first that does not fit."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {json_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        _check_value(value, dtype)
        yield value
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        yield from _leaves(item, dtype, shape, level + 1)


def _check_value(value: Any, dtype: int) -> None:
    if dtype == types_pb2.DT_STRING and isinstance(value, dict):
        if not is_base64(value):
            raise invalid_argument(f"JSON Value: {json_text(value)} not formatted correctly for base64 data")
        decoded(value)
        return
    kind = type(value)
    if dtype in _INTEGERS:
        least, greatest = _INTEGERS[dtype]
        fits = kind is int and least <= value <= greatest
    elif dtype in _DECIMALS:
        fits = kind in {int, float}
    elif dtype in {types_pb2.DT_BOOL, types_pb2.DT_STRING}:
        fits = kind is (bool if dtype == types_pb2.DT_BOOL else str)
    elif kind is dict:
        fits = False
    else:
        text = f"Conversion of JSON Value: {json_text(value)} to type: {_name(dtype)}"
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, text)
    if not fits:
        raise invalid_argument(
            f"JSON Value: {json_text(value)} Type: {json_type(value)} is not of expected type: {_name(dtype)}"
        )
