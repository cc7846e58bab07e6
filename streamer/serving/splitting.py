"""Splits a batch by its requests, to find the one that the model rejects. Pure."""

import numpy as np
import numpy.typing as npt

from streamer.types import BatchInputs


def halves(inputs: BatchInputs) -> list[tuple[npt.NDArray[np.intp], BatchInputs]]:
    """The halves of a batch of two or more requests: positions of the rows, and inputs."""
    middle = len(inputs.request_ids) // 2
    found = []
    for first, last in ((0, middle), (middle, len(inputs.request_ids))):
        rows = np.flatnonzero((inputs.row_to_request >= first) & (inputs.row_to_request < last))
        part = BatchInputs(
            request_ids=inputs.request_ids[first:last],
            request_floats=inputs.request_floats[first:last],
            candidate_ids=inputs.candidate_ids[rows],
            candidate_floats=inputs.candidate_floats[rows],
            pair_ids=inputs.pair_ids[rows],
            row_to_request=inputs.row_to_request[rows] - np.int32(first),
            request_numbers=None if inputs.request_numbers is None else inputs.request_numbers[first:last],
            candidate_numbers=None if inputs.candidate_numbers is None else inputs.candidate_numbers[rows],
        )
        found.append((rows, part))
    return found
