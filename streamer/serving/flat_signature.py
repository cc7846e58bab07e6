"""Inputs for the flat signature of a foreign model, from encoded rows. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.errors import SpecError
from streamer.features import FeatureSpec
from streamer.features.layout import GROUPS, FloatColumn, IdColumns, Layout
from streamer.features.spec import FlatServing
from streamer.types import F32, I32, BatchInputs, SignatureInfo, Tensor, TensorInfo

_INTEGERS: Mapping[str, npt.DTypeLike] = {"int32": np.int32, "int64": np.int64}

_Column = IdColumns | FloatColumn


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of the signature: the columns of its features, [n, k], or [n] for a vector."""

    name: str
    dtype: npt.DTypeLike
    is_vector: bool
    columns: tuple[Callable[[BatchInputs], Tensor], ...]

    def array(self, batch: BatchInputs) -> Tensor:
        side_by_side = np.concatenate([column(batch) for column in self.columns], axis=1)
        if np.issubdtype(self.dtype, np.integer) and side_by_side.dtype.kind == "f":
            side_by_side = np.rint(side_by_side)
        array = side_by_side.astype(self.dtype)
        return array[:, 0] if self.is_vector else array


class FlatSignature:
    """Builds the inputs of a signature that takes one row for each candidate.

    The inputs have the model's own names:

    - A categorical or bucketised feature, or a cross of such features: the bucket number from 0, which means missing.
    - A multi-valued feature, or a cross with one: for each value the bucket number from 1; 0 is padding.
    - A numeric feature: the value in the units of the request, as before its standardisation.
    """

    def __init__(self, layout: Layout, serving: FlatServing, found: SignatureInfo) -> None:
        """Raises SpecError if the spec's inputs or its output do not fit the signature `found`."""
        columns: dict[str, _Column] = {c.feature.name: c for group in GROUPS for c in layout.ids[group]}
        columns |= {c.feature.name: c for group in GROUPS for c in layout.floats[group]}
        self.name = serving.signature
        self.output = serving.output
        if set(serving.inputs) != set(found.inputs):
            raise SpecError(f"serving.inputs: {sorted(serving.inputs)}, but the model takes {sorted(found.inputs)}")
        if serving.output not in found.outputs:
            raise SpecError(f"serving.output: {serving.output!r}, but the model returns {sorted(found.outputs)}")
        self._inputs = tuple(
            _input(name, tuple(columns[feature] for feature in features), found.inputs[name], layout.spec)
            for name, features in serving.inputs.items()
        )

    def tensors(self, batch: BatchInputs) -> dict[str, Tensor]:
        """The inputs of n rows by name, [n] or [n, k], in the dtypes of the signature."""
        return {entry.name: entry.array(batch) for entry in self._inputs}


def _input(name: str, columns: tuple[_Column, ...], info: TensorInfo, spec: FeatureSpec) -> _Input:
    where = f"serving.inputs.{name}"
    if info.dtype not in (*_INTEGERS, "float32"):
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
    read = tuple(_ids(c, padded=spec.is_padded(c.feature)) if isinstance(c, IdColumns) else _number(c) for c in columns)
    return _Input(name, _INTEGERS.get(info.dtype, np.float32), is_vector, read)


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


def _number(at: FloatColumn) -> Callable[[BatchInputs], F32]:
    """A function that reads a numeric feature in the units of the request."""
    feature = at.feature
    std, mean = np.float32(feature.std), np.float32(feature.mean)

    def read(batch: BatchInputs) -> F32:
        rows = batch.request_floats[batch.row_to_request] if at.group == "request" else batch.candidate_floats
        value = rows[:, at.start : at.start + 1] * std + mean
        return np.expm1(value) if feature.log else value

    return read
