"""Joins the inputs of several tasks to one batch and splits its outputs. Pure numpy."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.model_server.batching_parameters import Batching
from sandbox.model_server.status import failed_precondition, invalid_argument

Arrays = Mapping[str, NDArray[Any]]


def rows_of(feeds: Arrays) -> int:
    """The common number of rows. Raises `StatusError` (INVALID_ARGUMENT) if there is none."""
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    rows: int | None = None
    for array in feeds.values():
        if not array.ndim:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        if rows not in {None, len(array)}:
            raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
        rows = len(array)
    return rows or 0


def padded_rows(rows: int, options: Batching) -> int:
    """The next allowed size; `rows` itself if no allowed size is as large."""
    return next((size for size in options.allowed_sizes if size >= rows), rows)


def merged(tasks: Sequence[Arrays], options: Batching) -> dict[str, NDArray[Any]]:
    """One array for each name: the rows of all tasks, then padding, the last task's first row.

    Raises `StatusError` if arrays of one name have different shapes.
    """
    return {name: _merged(name, [task[name] for task in tasks], options) for name in tasks[0]}


def split(array: NDArray[Any], sizes: Sequence[int], rows: int) -> list[NDArray[Any]]:
    """The rows of each task in an output of a batch of `rows` rows.

    Raises `StatusError` (FAILED_PRECONDITION) for an output that does not have a row for each row of the batch.
    """
    if not array.ndim:
        raise failed_precondition("Batched output tensor has 0 dimensions")
    if len(array) != rows:
        raise failed_precondition(
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
            "tensors"
        )
    return [array[start:end] for start, end in pairwise(np.cumsum([0, *sizes]).tolist())]


def _merged(name: str, arrays: list[NDArray[Any]], options: Batching) -> NDArray[Any]:
    if options.pad_variable_length:
        arrays = _widened(arrays)
    elif any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        raise failed_precondition(
            f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
            "have equal dimensions starting with the first dim."
        )
    rows = sum(map(len, arrays))
    if padding := padded_rows(rows, options) - rows:
        row = next(array[:1] for array in reversed(arrays) if len(array))
        arrays = [*arrays, np.repeat(row, padding, axis=0)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _widened(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays of one shape but for their rows; each is filled with its own first element."""
    if len({array.ndim for array in arrays}) > 1:
        raise invalid_argument("Only tensors of one rank can be padded.")
    shape = tuple(map(max, zip(*(array.shape[1:] for array in arrays), strict=True)))
    result = []
    for array in arrays:
        if array.shape[1:] != shape:
            if not array.size:
                raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
            wide = np.full((len(array), *shape), array.ravel()[0], array.dtype)
            wide[tuple(map(slice, array.shape))] = array
            array = wide  # noqa: PLW2901
        result.append(array)
    return result
