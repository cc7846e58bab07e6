"""Inputs for the flat signature of a foreign model, from encoded rows. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from streamer.errors import SpecError
from streamer.features.flat_serving import FlatServing
from streamer.features.layout import GROUPS, FloatColumn, IdColumns, Layout, RawColumns
from streamer.features.raw_kinds import Text
from streamer.serving.flat_inputs import (
    Reader,
    constant_array,
    example_reader,
    id_reader,
    missing_number,
    number_as,
    number_reader,
    text_reader,
)
from streamer.serving.outputs import SCORE_DTYPES
from streamer.types import BatchInputs, ScoreOutput, SignatureInfo, Tensor, TensorInfo

_Column = IdColumns | FloatColumn | RawColumns
_Dtype = np.dtype[np.generic]
_DTYPES: Mapping[str, _Dtype] = {
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "string": np.dtype(np.object_),
}
_OF_CONSTANTS = {**_DTYPES, "bool": np.dtype(np.bool_)}
_MAX_FIXED_ROWS = 4096


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of the signature: the columns of its features, [n, k], or [n] for a vector."""

    dtype: _Dtype
    is_vector: bool
    columns: tuple[Reader, ...]

    def array(self, batch: BatchInputs) -> Tensor:
        array = np.concatenate([column(batch) for column in self.columns], axis=1, dtype=self.dtype)
        return array[:, 0] if self.is_vector else array


@dataclass(frozen=True, slots=True)
class _Constant:
    """An input with one value; `shape` has -1 for the number of rows."""

    value: Tensor
    shape: tuple[int, ...]

    def of(self, rows: int) -> Tensor:
        return np.broadcast_to(self.value, [rows if size < 0 else size for size in self.shape])


class FlatSignature:
    """Builds the inputs of a signature that takes one row for each candidate.

    The inputs have the model's own names:

    - A categorical or bucketised feature, or a cross of such features: the bucket number from 0, which means missing.
    - A multi-valued feature, or a cross with one: for each value the bucket number from 1; 0 is padding.
    - A numeric feature: the request's number, rounded for an integer input. A number that the input's dtype cannot hold
      counts as missing, and in `out_of_range` by the name of its feature.
    - A raw feature: its text, number or numbers.
    - Serialized Examples, and constants.

    If an input has a fixed first size, a smaller batch is padded by its last row, and `output` has this size.
    """

    def __init__(
        self, layout: Layout, serving: FlatServing, found: SignatureInfo, out_of_range: Counter[str] | None = None
    ) -> None:
        """Raises SpecError, a line for each input or output that does not fit the signature `found`."""
        self._counter = Counter[str]() if out_of_range is None else out_of_range
        self._layout = layout
        groups = [
            columns for group in GROUPS for columns in (layout.ids[group], layout.floats[group], layout.raw[group])
        ]
        self._columns: dict[str, _Column] = {c.feature.name: c for columns in groups for c in columns}
        self.name = serving.signature
        self._inputs: dict[str, _Input | _Constant] = {}
        self._sizes: dict[str, int] = {}
        wrong = [*self._compared(serving, found)]
        for name in serving.inputs:
            if name in found.inputs:
                try:
                    self._inputs[name] = self._input(name, serving, found.inputs[name])
                except SpecError as error:
                    wrong.append(str(error))
        rows = next(iter(self._sizes.values()), None)
        if len(set(self._sizes.values())) > 1:
            wrong.append(f"serving.inputs: the model takes different numbers of rows, {self._sizes}")
        self.output = serving.scores._replace(padded_rows=rows)
        if (info := found.outputs.get(self.output.name)) is not None:
            self.output = self.output._replace(dtype=info.dtype)
            wrong += _wrong_output(self.output, info)
        if wrong:
            raise SpecError("\n".join(wrong))

    def tensors(self, batch: BatchInputs) -> dict[str, Tensor]:
        """The inputs of n rows by name, in the dtypes and shapes of the signature."""
        rows = self.output.padded_rows or batch.rows
        return {
            name: entry.of(rows) if isinstance(entry, _Constant) else _padded(entry.array(batch), rows)
            for name, entry in self._inputs.items()
        }

    @staticmethod
    def _compared(serving: FlatServing, found: SignatureInfo) -> Iterable[str]:
        """A line for each input or output that is only in the spec or only in the signature."""
        for name in sorted(serving.inputs.keys() - found.inputs.keys()):
            yield f"serving.inputs.{name}: no such input, but the model takes {_listed(found.inputs)}"
        for name in sorted(found.inputs.keys() - serving.inputs.keys() - found.defaults):
            yield f"serving.inputs.{name}: absent, but the model takes {_shown(found.inputs[name])}"
        if serving.scores.name not in found.outputs:
            yield f"serving.output: {serving.scores.name!r}, but the model returns {_listed(found.outputs)}"

    def _input(self, name: str, serving: FlatServing, info: TensorInfo) -> _Input | _Constant:
        where = f"serving.inputs.{name}"
        if name in serving.constants:
            return _constant(where, serving.constants[name], info)
        if info.dtype not in _DTYPES:
            raise SpecError(f"{where}: the model takes {_shown(info)}; supported are {', '.join(_DTYPES)}")
        is_vector = info.dims is not None and len(info.dims) == 1
        if name in serving.examples:
            if info.dtype != "string" or not self._fits(name, info, 1):
                raise SpecError(f"{where}: Examples, but the model takes {_shown(info)}")
            return _Input(_DTYPES["string"], is_vector, (example_reader(name, self._layout),))
        columns = [self._columns[feature] for feature in serving.columns[name]]
        width = sum(1 if isinstance(c, FloatColumn) else c.width for c in columns)
        if not self._fits(name, info, width):
            advice = f"; export it with [n] or [n, {width}]" if info.dims is None else ""
            raise SpecError(f"{where}: {width} columns, but the model takes {_shown(info)}{advice}")
        return _Input(_DTYPES[info.dtype], is_vector, tuple(self._reader(where, c, info) for c in columns))

    def _fits(self, name: str, info: TensorInfo, width: int) -> bool:
        """Whether an input takes rows of `width` columns; notes a fixed number of rows."""
        if (
            not info.dims
            or not -1 <= info.dims[0] <= _MAX_FIXED_ROWS
            or not info.dims[0]
            or (width != 1 if len(info.dims) == 1 else len(info.dims) != 2)
        ):
            return False
        if len(info.dims) == 2 and info.dims[1] not in (-1, width):
            return False
        if info.dims[0] > 0:
            self._sizes[name] = info.dims[0]
        return True

    def _reader(self, where: str, at: _Column, info: TensorInfo) -> Reader:
        feature, dtype = at.feature, _DTYPES[info.dtype]
        if (dtype.kind == "O") != isinstance(feature, Text) or (dtype.kind == "f" and isinstance(at, IdColumns)):
            raise SpecError(f"{where}: {feature.name!r} is {feature.kind}, but the model takes {_shown(info)}")
        if isinstance(at, IdColumns):
            return id_reader(at, padded=self._layout.spec.is_padded(at.feature))
        if isinstance(at, RawColumns) and isinstance(feature, Text):
            return text_reader(at)
        number = missing_number(at)
        try:
            number_as(number, dtype)
        except OverflowError:
            detail = f"{number:g}, the value of a missing {feature.name!r}, is no {info.dtype}"
            raise SpecError(f"{where}: {detail}") from None
        return number_reader(at, self._layout, dtype, self._counter)


def _constant(where: str, value: object, info: TensorInfo) -> _Constant:
    dtype = _OF_CONSTANTS.get(info.dtype)
    array = None if dtype is None else constant_array(value, dtype)
    if array is not None:
        found = _Constant(array, _shape_of_constant(array, info.dims))
        try:
            # One row more than it has items, because it must fit any number of rows.
            found.of(array.size + 1)
        except ValueError:
            pass
        else:
            return found
    raise SpecError(f"{where}: the constant {value!r}, but the model takes {_shown(info)}")


def _shape_of_constant(value: Tensor, dims: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of an input: -1 for the rows; the last other unknown size is the constant's."""
    if dims is None:
        return value.shape
    shape = (*dims[:1], *(1 if size < 0 else size for size in dims[1:]))
    return (*shape[:-1], value.size) if len(dims) > 1 and dims[-1] < 0 else shape


def _wrong_output(output: ScoreOutput, info: TensorInfo) -> Iterable[str]:
    where = f"serving.output: {output.name!r}: the model returns {_shown(info)}"
    classes = None if info.dims is None or len(info.dims) != 2 else info.dims[1]
    if info.dtype not in SCORE_DTYPES:
        yield f"{where}; scores are {', '.join(SCORE_DTYPES)}"
    elif info.dims is not None and len(info.dims) not in (1, 2):
        yield f"{where}; scores are [n], [n, 1] or [n, classes]"
    elif output.column is None and classes is not None and classes > 1:
        yield f"{where}; give `column`, the number of the class of a click, from 0"
    elif output.column is not None and info.dims is not None and (classes is None or -1 < classes <= output.column):
        yield f"{where}; column: {output.column} is too high"
    elif output.column is None and output.activation == "softmax":
        yield f"{where}; softmax needs `column`, the number of the class of a click, from 0"


def _padded(array: Tensor, rows: int) -> Tensor:
    if rows == len(array):
        return array
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])


def _shown(info: TensorInfo) -> str:
    return f"{info.dtype}, any shape" if info.dims is None else f"{info.dtype}, shape {list(info.dims)}"


def _listed(infos: Mapping[str, TensorInfo]) -> str:
    return "; ".join(f"{name}: {_shown(info)}" for name, info in sorted(infos.items())) or "none"
