"""Splits a batch into parts. Pure."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.types import BatchInputs, ModelVersion

Positions = npt.NDArray[np.intp]
Part = tuple[Positions, BatchInputs]
"""Positions of rows in the whole batch, and their inputs."""


def halves(inputs: BatchInputs) -> list[Part]:
    """The halves of a batch of two or more requests, to find the one that is rejected."""
    middle = len(inputs.request_ids) // 2
    return [_part(inputs, first, last) for first, last in ((0, middle), (middle, len(inputs.request_ids)))]


def pieces(inputs: BatchInputs, version: ModelVersion) -> list[Part]:
    """The whole batch, or parts of it for a version that takes a fixed number of rows."""
    fixed = None if version.flat is None else version.flat.output.padded_rows
    if fixed is None or inputs.rows <= fixed:
        return [(np.arange(inputs.rows), inputs)]
    starts = range(0, inputs.rows, fixed)
    return [_rows(inputs, np.arange(start, min(start + fixed, inputs.rows))) for start in starts]


def _part(inputs: BatchInputs, first: int, last: int) -> Part:
    """The requests from `first` to before `last`."""
    rows = np.flatnonzero((inputs.row_to_request >= first) & (inputs.row_to_request < last))
    return _taken(inputs, rows, np.arange(first, last), inputs.row_to_request[rows] - np.int32(first))


def _rows(inputs: BatchInputs, rows: Positions) -> Part:
    requests, row_to_request = np.unique(inputs.row_to_request[rows], return_inverse=True)
    return _taken(inputs, rows, requests, row_to_request.astype(np.int32))


def _taken(
    inputs: BatchInputs,
    rows: Positions,
    requests: npt.NDArray[np.integer],
    row_to_request: npt.NDArray[np.int32],
) -> Part:
    found = {f.name: getattr(inputs, f.name) for f in msgspec.structs.fields(inputs) if f.name != "row_to_request"}
    taken: dict[str, Any] = {
        name: None if matrix is None else matrix[requests if name.startswith("request_") else rows]
        for name, matrix in found.items()
    }
    return rows, BatchInputs(row_to_request=row_to_request, **taken)
