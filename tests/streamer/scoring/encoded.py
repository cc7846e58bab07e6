"""Encoded requests in which each row has its own ids."""

import numpy as np

from streamer.types import F32, I32, BatchInputs, EncodedRequest


def encoded(tag: int, rows: int, *, user: int | None = None) -> EncodedRequest:
    """A request of `rows` candidates with the ids tag * 10000 + i.

    Requests of one `user` have the same user-and-context row.
    """
    ids = (tag * 10_000 + np.arange(rows, dtype=np.int32)).reshape(-1, 1)
    user = tag if user is None else user
    return EncodedRequest(
        ad_ids=[f"{tag}-{i}" for i in range(rows)],
        request_ids=np.array([[user, user + 1]], dtype=np.int32),
        request_floats=np.array([[user / 2]], dtype=np.float32),
        candidate_ids=ids,
        candidate_floats=ids.astype(np.float32),
        pair_ids=np.hstack([ids, ids + 1]),
        keys=np.zeros((rows, 2), dtype=np.uint64),
        ad_keys=ids[:, 0].astype(np.uint64),
    )


def score_of(candidate_ids: I32) -> F32:
    """A different click probability for each candidate: float32 [n] of ids [n, 1]."""
    return (candidate_ids[:, 0] / np.float32(1e6)).astype(np.float32)


def scores_of(inputs: BatchInputs) -> F32:
    """The model's scores of a batch, float32 [n]."""
    return score_of(inputs.candidate_ids)
