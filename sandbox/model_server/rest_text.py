"""Writes answers of the REST API as TensorFlow Serving lays out JSON and numbers. Pure.

Texts hold bytes that are not UTF-8 as surrogates (`surrogateescape`); `encoded` restores them.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.model_server.status import invalid_argument

_SPECIAL = re.compile(r'[\x00-\x1f"\\]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_STEP = "    "
_FLOAT_MAX = float(np.finfo(np.float32).max)
# Doubles are written without an exponent up to this many digits before the point, and 5 zeros after it.
_MOST_DIGITS = 21
_LEAST_POINT = -6


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def quoted(text: str) -> str:
    """A JSON string; only quotes, backslashes and control characters are escaped."""
    return '"' + _SPECIAL.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04X}", text) + '"'


def error_text(message: str) -> str:
    """The body of a failed request."""
    return f'{{\n{_STEP}"error": {quoted(message)}\n}}'


def number_texts(array: NDArray[Any]) -> list[str]:
    """The numbers of an array in row-major order.

    A decimal has 6 digits if these restore its value, otherwise all digits (9 of a float, 17 of a double), and a point
    or an exponent. NaN and infinities are written as `NaN`, `Infinity`, `-Infinity`.
    """
    flat = array.ravel()
    if flat.dtype.kind == "b":
        return ["true" if value else "false" for value in flat.tolist()]
    if flat.dtype.kind in "iu":
        return list(map(str, flat.tolist()))
    if flat.dtype.itemsize == 2:
        flat = flat.astype(np.float32)
    values = flat.tolist()
    texts = _printed("%.6g ", values)
    with np.errstate(over="ignore"):
        lossy = np.flatnonzero(np.array(list(map(float, texts)), flat.dtype) != flat)
    exact = _printed("%.9g " if flat.dtype.itemsize == 4 else "%.17g ", flat[lossy].tolist())
    for position, text in zip(lossy.tolist(), exact, strict=True):
        texts[position] = text
    texts = [text if "." in text or "e" in text else text + ".0" for text in texts]
    for position in np.flatnonzero(~np.isfinite(flat)).tolist():
        value = values[position]
        texts[position] = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return texts


def rows(outputs: Mapping[str, NDArray[Any]]) -> str:
    """The answer to `instances`: one value for each row, an object if there are several outputs.

    Arrays share their first dimension. Strings are arrays of bytes. Raises `StatusError` (INVALID_ARGUMENT).
    """
    count = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if count not in {-1, len(array)}:
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)
    depth = 2 if len(outputs) == 1 else 3
    columns_ = [_values(name, array, depth + array.ndim - 1) for name, array in outputs.items()]
    parts = [_in_one_line(texts, array.shape) for texts, array in zip(columns_, outputs.values(), strict=True)]
    if len(outputs) == 1:
        return _predictions(", ".join(parts[0]))
    starts = [f"\n{_STEP * 3}{quoted(name)}: " for name in outputs]
    members = [[start + text for text in texts] for start, texts in zip(starts, parts, strict=True)]
    start, end = f"\n{_STEP * 2}{{", f"\n{_STEP * 2}}}"
    objects = f"{end},{start}".join(map(",".join, zip(*members, strict=True)))
    return _predictions(start + objects + end if count else "")


def columns(outputs: Mapping[str, NDArray[Any]]) -> str:
    """The answer to `inputs`: one value for each output, an object if there are several."""
    depth = 1 if len(outputs) == 1 else 2
    texts = {
        name: _in_lines(_values(name, array, depth + array.ndim), array.shape, depth) for name, array in outputs.items()
    }
    if len(texts) == 1:
        return f'{{\n{_STEP}"outputs": {next(iter(texts.values()))}\n}}'
    pad = "\n" + _STEP * 2
    members = ",".join(f"{pad}{quoted(name)}: {text}" for name, text in texts.items())
    return f'{{\n{_STEP}"outputs": {{{members}\n{_STEP}}}\n}}'


def classes(labels: Sequence[Sequence[str]], scores: Sequence[NDArray[Any]]) -> str:
    """The answer of `:classify`: for each example the labels and scores float32 of its classes."""
    results = (
        ", ".join(f"[{quoted(label)}, {score}]" for label, score in zip(names, number_texts(values), strict=True))
        for names, values in zip(labels, scores, strict=True)
    )
    items = ", ".join(f"[{result}]" for result in results)
    return f'{{\n{_STEP}"results": [{items}\n{_STEP}]\n}}'


def regressions(values: NDArray[Any]) -> str:
    """The answer of `:regress`: a number for each example, float32 [n]."""
    return f'{{\n{_STEP}"results": [{", ".join(number_texts(values))}]\n}}'


def json_text(value: object) -> str:
    """A JSON value in an error message.

    A number alone is written as a tensor's, a number in a list as a double.
    """
    if isinstance(value, float):
        return number_texts(np.array([value], np.float32 if abs(value) <= _FLOAT_MAX else np.float64))[0]
    return _nested(value, 0)


def _printed(form: str, values: Sequence[float]) -> list[str]:
    return (form * len(values) % tuple(values)).split()


def _predictions(items: str) -> str:
    end = f"\n{_STEP}]" if items else "]"
    return f'{{\n{_STEP}"predictions": [{items}{end}\n}}'


def _values(name: str, array: NDArray[Any], depth: int) -> list[str]:
    """Texts of single values; `depth` containers are around each of them."""
    if not array.dtype.hasobject:
        kind = array.dtype.name
        if kind in {"bfloat16", "uint16"} or array.dtype.kind == "c":
            raise invalid_argument(f"Failed to write JSON value for tensor type: {kind}")
        return number_texts(array)
    flat: list[bytes] = array.ravel().tolist()
    if not name.endswith("_bytes"):
        return [quoted(value.decode("utf-8", "surrogateescape")) for value in flat]
    before, after = f'{{\n{_STEP * (depth + 1)}"b64": "', f'"\n{_STEP * depth}}}'
    return [before + base64.b64encode(value).decode() + after for value in flat]


def _in_one_line(texts: list[str], shape: tuple[int, ...]) -> list[str]:
    """Texts of the rows of an array, each with its nested lists."""
    for axis in range(len(shape) - 1, 0, -1):
        size, count = shape[axis], math.prod(shape[:axis])
        texts = ["[" + ", ".join(texts[at * size : (at + 1) * size]) + "]" for at in range(count)]
    return texts


def _in_lines(texts: list[str], shape: tuple[int, ...], depth: int) -> str:
    for axis in range(len(shape) - 1, -1, -1):
        size, count = shape[axis], math.prod(shape[:axis])
        pad = "\n" + _STEP * (depth + axis + 1)
        start, between, end = f"[{pad}", f",{pad}", f"\n{_STEP * (depth + axis)}]"
        if size:
            texts = [start + between.join(texts[at * size : (at + 1) * size]) + end for at in range(count)]
        else:
            texts = ["[]"] * count
    return texts[0]


def _nested(value: object, depth: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, list):
        return "[" + ", ".join(_nested(item, depth + 1) for item in value) + "]"
    if isinstance(value, dict) and value:
        pad = "\n" + _STEP * (depth + 1)
        members = ",".join(f"{pad}{quoted(key)}: {_nested(item, depth + 1)}" for key, item in value.items())
        return f"{{{members}\n{_STEP * depth}}}"
    return "{}" if isinstance(value, dict) else str(value)


def _double(value: float) -> str:
    """The shortest digits that restore a double, laid out as RapidJSON does."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign, digits_, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits, exponent = "".join(map(str, digits_)), int(exponent)
    point = len(digits) + exponent
    if digits == "0":
        text = "0.0"
    elif exponent >= 0 and point <= _MOST_DIGITS:
        text = digits + "0" * exponent + ".0"
    elif 0 < point <= _MOST_DIGITS:
        text = f"{digits[:point]}.{digits[point:]}"
    elif _LEAST_POINT < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." if digits[1:] else "") + digits[1:] + f"e{point - 1}"
    return "-" * sign + text
