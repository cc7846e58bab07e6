"""A request for benchmarks in which nothing reads the rows."""

import numpy as np

from streamer.types import EncodedRequest


def smallest_request(candidates: int) -> EncodedRequest:
    """A request with rows of minimal size: nothing reads them."""
    return EncodedRequest(
        ad_ids=[""] * candidates,
        request_ids=np.zeros((1, 1), dtype=np.int32),
        request_floats=np.zeros((1, 0), dtype=np.float32),
        candidate_ids=np.zeros((candidates, 1), dtype=np.int32),
        candidate_floats=np.zeros((candidates, 0), dtype=np.float32),
        pair_ids=np.zeros((candidates, 0), dtype=np.int32),
        keys=np.zeros((candidates, 2), dtype=np.uint64),
        ad_keys=np.zeros(candidates, dtype=np.uint64),
    )
