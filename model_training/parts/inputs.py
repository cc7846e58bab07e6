"""The input of a model: rows of requests and of candidates, or flat rows with both."""

from dataclasses import dataclass

import tensorflow as tf

from streamer.features import Layout


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """One batch of n candidates of r requests.

    Attributes:
        request_ids, request_floats: int32 and float32 [r, …], columns of user and context.
        candidate_ids, candidate_floats: int32 and float32 [n, …]; crosses of request and candidate are the last ids.
        row_to_request: int32 [n], below r; None if r = n and each candidate has its own request row.
    """

    request_ids: tf.Tensor
    request_floats: tf.Tensor
    candidate_ids: tf.Tensor
    candidate_floats: tf.Tensor
    row_to_request: tf.Tensor | None = None

    def to_candidates(self, request_values: tf.Tensor) -> tf.Tensor:
        """Repeats values of requests [r, …] for their candidates: [n, …]."""
        return request_values if self.row_to_request is None else tf.gather(request_values, self.row_to_request)


def flat_inputs(layout: Layout, ids: tf.Tensor, floats: tf.Tensor) -> ModelInputs:
    """Splits flat rows: int32 [n, layout.row_ids] and float32 [n, layout.row_floats]."""
    ids_at, floats_at = layout.id_width("request"), layout.float_width("request")
    return ModelInputs(ids[:, :ids_at], floats[:, :floats_at], ids[:, ids_at:], floats[:, floats_at:])
