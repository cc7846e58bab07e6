"""Reads the columns of a batch in the form in which a foreign model takes them. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from streamer.features.examples import example
from streamer.features.layout import FloatColumn, IdColumns, Layout, RawColumns
from streamer.features.raw_kinds import Integer
from streamer.features.side_numbers import replacement
from streamer.types import F64, I32, BatchInputs, Tensor, Texts

Reader = Callable[[BatchInputs], Tensor]
"""Reads n rows of a batch, [n, k]."""


def id_reader(at: IdColumns, *, padded: bool) -> Reader:
    """Reads a feature's bucket numbers, int32, from 0, or from 1 if 0 is padding."""
    first = np.int32(at.offset - padded)
    columns = slice(at.start, at.start + at.width)

    def read(batch: BatchInputs) -> I32:
        ids = {"request": batch.request_ids, "candidate": batch.candidate_ids, "pair": batch.pair_ids}[at.group]
        rows = ids[batch.row_to_request] if at.group == "request" else ids
        buckets: I32 = np.maximum(rows[:, columns] - first, np.int32(0))
        return buckets

    return read


def missing_number(at: FloatColumn | RawColumns) -> float | int:
    """The number that the model gets instead of a missing one, or of one that it cannot hold."""
    if isinstance(at, FloatColumn):
        return replacement(at.feature)
    return (at.feature.default or 0) if isinstance(at.feature, Integer) else 0


def number_reader(
    at: FloatColumn | RawColumns, layout: Layout, dtype: np.dtype[np.generic], out_of_range: Counter[str]
) -> Reader:
    """Reads numbers in the units of the request, as `dtype`.

    One that `dtype` cannot hold counts as missing, and in `out_of_range` by the name of its feature.
    """
    missing = number_as(missing_number(at), dtype)
    width = 1 if isinstance(at, FloatColumn) else at.width
    columns = slice(at.start, at.start + width)
    after = layout.number_width(at.group)
    rests = slice(after + at.start, after + at.start + width)

    def read(batch: BatchInputs) -> Tensor:
        numbers = batch.request_numbers if at.group == "request" else batch.candidate_numbers
        assert numbers is not None, "the encoder of a spec with `serving` gives them"
        values, fits = converted(numbers[:, columns], numbers[:, rests], dtype)
        if not fits.all():
            out_of_range[at.feature.name] += int((~fits).sum())
            values = np.where(fits, values, missing)
        return values[batch.row_to_request] if at.group == "request" else values

    return read


def text_reader(at: RawColumns) -> Reader:
    """Reads the texts of a feature, bytes objects."""
    columns = slice(at.start, at.start + at.width)

    def read(batch: BatchInputs) -> Texts:
        if at.group == "request":
            return _texts(batch.request_texts)[:, columns][batch.row_to_request]
        return _texts(batch.candidate_texts)[:, columns]

    return read


def example_reader(name: str, layout: Layout) -> Reader:
    """Reads the serialized Examples for the input `name`, bytes objects [n, 1]."""
    request, candidate = (
        next(part.start for part in layout.examples[group] if part.input == name) for group in ("request", "candidate")
    )

    def read(batch: BatchInputs) -> Texts:
        users: list[bytes] = _texts(batch.request_texts)[:, request].tolist()
        ads: list[bytes] = _texts(batch.candidate_texts)[:, candidate].tolist()
        whole = np.empty((batch.rows, 1), dtype=np.object_)
        whole[:, 0] = [example(users[row], ad) for row, ad in zip(batch.row_to_request.tolist(), ads, strict=True)]
        return whole

    return read


def constant_array(value: object, dtype: np.dtype[np.generic]) -> Tensor | None:
    """A constant of the spec as an array of `dtype`; None if `dtype` cannot hold it."""
    whole = list(value) if isinstance(value, tuple) else value
    items: Sequence[object] = whole if isinstance(whole, list) else [whole]
    kinds: dict[str, tuple[type, ...]] = {"O": (str,), "b": (bool,), "i": (int,), "f": (int, float)}
    if not all(isinstance(item, kinds[dtype.kind]) and isinstance(item, bool) == (dtype.kind == "b") for item in items):
        return None
    if dtype.kind == "O":
        items = [str(item).encode() for item in items]
    found = np.empty(len(items), dtype=dtype)
    try:
        with np.errstate(over="ignore"):
            found[:] = items
    except OverflowError:
        return None
    if dtype.kind == "f" and not np.isfinite(found).all():
        return None
    return found if isinstance(whole, list) else found.reshape(())


def number_as(number: float, dtype: np.dtype[np.generic]) -> Tensor:
    """A number as a scalar array of `dtype`. Raises OverflowError if `dtype` cannot hold it."""
    rest = 0
    if isinstance(number, int):
        rest = number - (number >> 11 << 11)
    values, fits = converted(np.array(float(number - rest)), np.array(float(rest)), dtype)
    if not fits.all():
        raise OverflowError
    return values


def converted(values: F64, rests: F64, dtype: np.dtype[np.generic]) -> tuple[Tensor, npt.NDArray[np.bool_]]:
    """Numbers and their rests, of any shape, as `dtype`, and which of them it can hold."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = (values + rests).astype(dtype)
        return found, np.isfinite(found)
    rounded = np.rint(values)
    high = 2.0 ** (8 * dtype.itemsize - 1)
    fits = (rounded >= -high) & (rounded < high)
    whole = np.where(fits, rounded, 0.0).astype(dtype)
    return whole + np.where(fits, rests, 0.0).astype(dtype), fits


def _texts(texts: Texts | None) -> Texts:
    assert texts is not None, "the encoder of a spec with `serving` gives them"
    return texts
