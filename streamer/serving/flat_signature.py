"""Inputs for the flat signature of a foreign model, from encoded rows. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.errors import SpecError
from streamer.features.layout import GROUPS, FloatColumn, IdColumns, Layout
from streamer.features.side import replacement
from streamer.features.spec import FlatServing
from streamer.types import F64, I32, BatchInputs, SignatureInfo, Tensor, TensorInfo

_Column = IdColumns | FloatColumn
_Dtype = np.dtype[np.int32] | np.dtype[np.int64] | np.dtype[np.float32]
_DTYPES: Mapping[str, _Dtype] = {
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "float32": np.dtype(np.float32),
}


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of the signature: the columns of its features, [n, k], or [n] for a vector."""

    name: str
    dtype: _Dtype
    is_vector: bool
    columns: tuple[Callable[[BatchInputs], Tensor], ...]

    def array(self, batch: BatchInputs) -> Tensor:
        array = np.concatenate([column(batch) for column in self.columns], axis=1, dtype=self.dtype)
        return array[:, 0] if self.is_vector else array


class FlatSignature:
    """Builds the inputs of a signature that takes one row for each candidate.

    The inputs have the model's own names:

    - A categorical or bucketised feature, or a cross of such features: the bucket number from 0, which means missing.
    - A multi-valued feature, or a cross with one: for each value the bucket number from 1; 0 is padding.
    - A numeric feature: the request's number, rounded for an integer input. A number that the input's dtype cannot hold
      counts as missing, and in `out_of_range` by the name of its feature.
    """

    def __init__(
        self, layout: Layout, serving: FlatServing, found: SignatureInfo, out_of_range: Counter[str] | None = None
    ) -> None:
        """Raises SpecError if the spec's inputs or its output do not fit the signature `found`."""
        counter = Counter[str]() if out_of_range is None else out_of_range
        columns: dict[str, _Column] = {c.feature.name: c for group in GROUPS for c in layout.ids[group]}
        columns |= {c.feature.name: c for group in GROUPS for c in layout.floats[group]}
        self.name = serving.signature
        self.output = serving.output
        if set(serving.inputs) != set(found.inputs):
            raise SpecError(f"serving.inputs: {sorted(serving.inputs)}, but the model takes {sorted(found.inputs)}")
        if serving.output not in found.outputs:
            raise SpecError(f"serving.output: {serving.output!r}, but the model returns {sorted(found.outputs)}")
        self._inputs = tuple(
            _input(name, tuple(columns[feature] for feature in features), found.inputs[name], layout, counter)
            for name, features in serving.inputs.items()
        )

    def tensors(self, batch: BatchInputs) -> dict[str, Tensor]:
        """The inputs of n rows by name, [n] or [n, k], in the dtypes of the signature."""
        return {entry.name: entry.array(batch) for entry in self._inputs}


def _input(
    name: str, columns: tuple[_Column, ...], info: TensorInfo, layout: Layout, out_of_range: Counter[str]
) -> _Input:
    where = f"serving.inputs.{name}"
    if info.dtype not in _DTYPES:
        raise SpecError(f"{where}: the model takes {info.dtype}; supported are int32, int64 and float32")
    width = sum(c.width if isinstance(c, IdColumns) else 1 for c in columns)
    if info.dims is None:
        raise SpecError(f"{where}: {width} columns, but the model takes any rank; export it with [n] or [n, {width}]")
    is_vector = len(info.dims) == 1
    fits = width == 1 if is_vector else len(info.dims) == 2 and info.dims[1] in (-1, width)
    if not fits or info.dims[0] != -1:
        raise SpecError(f"{where}: {width} columns, but the model takes shape {list(info.dims)}")
    not_numeric = [c.feature.name for c in columns if isinstance(c, IdColumns)]
    if info.dtype == "float32" and not_numeric:
        raise SpecError(f"{where}: {not_numeric[0]!r} is not a numeric feature, but the model takes float32")
    dtype = _DTYPES[info.dtype]
    for column in columns:
        if isinstance(column, FloatColumn) and not _converted(_row(replacement(column.feature)), dtype)[1].all():
            number = replacement(column.feature)
            raise SpecError(f"{where}: {number:g}, the value of a missing {column.feature.name!r}, is no {info.dtype}")
    read = tuple(
        _ids(c, padded=layout.spec.is_padded(c.feature))
        if isinstance(c, IdColumns)
        else _number(c, layout.float_width(c.group), dtype, out_of_range)
        for c in columns
    )
    return _Input(name, dtype, is_vector, read)


def _ids(at: IdColumns, *, padded: bool) -> Callable[[BatchInputs], I32]:
    """A function that reads a feature's bucket numbers, from 0, or from 1 if 0 is padding."""
    first = np.int32(at.offset - padded)
    columns = slice(at.start, at.start + at.width)

    def read(batch: BatchInputs) -> I32:
        ids = {"request": batch.request_ids, "candidate": batch.candidate_ids, "pair": batch.pair_ids}[at.group]
        rows = ids[batch.row_to_request] if at.group == "request" else ids
        buckets: I32 = np.maximum(rows[:, columns] - first, np.int32(0))
        return buckets

    return read


def _number(at: FloatColumn, width: int, dtype: _Dtype, out_of_range: Counter[str]) -> Callable[[BatchInputs], Tensor]:
    """A function that reads a numeric feature in the units of the request."""
    missing, _ = _converted(_row(replacement(at.feature)), dtype)

    def read(batch: BatchInputs) -> Tensor:
        numbers = batch.request_numbers if at.group == "request" else batch.candidate_numbers
        assert numbers is not None, "the encoder of a spec with `serving` gives them"
        values, fits = _converted(numbers[:, [at.start, width + at.start]], dtype)
        if not fits.all():
            out_of_range[at.feature.name] += int((~fits).sum())
            values = np.where(fits, values, missing)
        return (values[batch.row_to_request] if at.group == "request" else values)[:, None]

    return read


def _row(number: float) -> F64:
    return np.array([[number, 0.0]])


def _converted(numbers: F64, dtype: _Dtype) -> tuple[Tensor, npt.NDArray[np.bool_]]:
    """Numbers and their rests, float64 [n, 2], as [n] of `dtype`, and which of them it can hold."""
    values, rests = numbers[:, 0], numbers[:, 1]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = values.astype(dtype)
        return found, np.isfinite(found)
    rounded = np.rint(values)
    high = 2.0 ** (8 * dtype.itemsize - 1)
    fits = (rounded >= -high) & (rounded < high)
    whole = np.where(fits, rounded, 0.0).astype(dtype)
    return whole + np.where(fits, rests, 0.0).astype(dtype), fits
