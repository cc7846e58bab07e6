"""One vector of equal length per deep feature, for models that multiply features.

    v_f = the pooled embedding             of an embedded feature
    v_f = x_f u_f                          of a number x_f with its own vector u_f

Guo et al.: DeepFM (2017), section 2.1: a field of one number is represented by the number times its vector.
"""

import tensorflow as tf

from model_training.columns import ColumnPair
from model_training.parts.embedding import Embedded
from model_training.parts.variables import VariableFactory, normal


class FieldPart(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The vectors of numbers, and the fields of request and candidate.

    Attributes:
        counts: number of fields of the request and of the candidate. Embedded features come first, then numbers.
    """

    def __init__(self, columns: ColumnPair, dim: int, *, stddev: float, seed: int, create: VariableFactory) -> None:
        super().__init__(name="fields")
        request, candidate = columns
        self._dim = dim
        self._embedded = (len(request.embedded), len(candidate.embedded))
        self.counts = (
            len(request.embedded) + len(request.deep_floats),
            len(candidate.embedded) + len(candidate.deep_floats),
        )
        self.request_numbers = create(
            "fields/request_numbers", [len(request.deep_floats), dim], normal(stddev, seed, 1001)
        )
        self.candidate_numbers = create(
            "fields/candidate_numbers", [len(candidate.deep_floats), dim], normal(stddev, seed, 1002)
        )

    def request(self, embedded: Embedded) -> tf.Tensor:
        """The request's fields, float32 [r, counts[0], dim]."""
        return self._fields(embedded, self._embedded[0], self.request_numbers)

    def candidate(self, embedded: Embedded) -> tf.Tensor:
        """The candidate's fields, float32 [n, counts[1], dim]."""
        return self._fields(embedded, self._embedded[1], self.candidate_numbers)

    def _fields(self, embedded: Embedded, count: int, vectors: tf.Tensor) -> tf.Tensor:
        # The number of rows is explicit because a reshape cannot infer it when there are no fields.
        fields = tf.reshape(embedded.vectors, [tf.shape(embedded.vectors)[0], count, self._dim])
        return tf.concat([fields, embedded.numbers[:, :, None] * vectors], axis=1)
