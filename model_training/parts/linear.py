"""The wide part: a linear model over ids and numbers of request and candidate."""

import tensorflow as tf

from model_training.columns import LinearColumns
from model_training.layers.linear import linear_floats, linear_ids
from model_training.parts.inputs import ModelInputs
from model_training.parts.variables import VariableFactory, shards_of, zeros


class LinearPart(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """One weight for each row of the fused table, and one for each number.

    Invariant: row 0 of `weights` is padding; it starts at zero, and optimizers keep it at zero.
    """

    def __init__(self, rows: int, request: LinearColumns, candidate: LinearColumns, *, create: VariableFactory) -> None:
        super().__init__(name="linear")
        self._request, self._candidate = request, candidate
        self.weights = create("wide/weights", [rows], zeros, table=True)
        self.request_floats = create("wide/request_floats", [len(request.floats)], zeros)
        self.candidate_floats = create("wide/candidate_floats", [len(candidate.floats)], zeros)

    @property
    def trained(self) -> list[tf.Variable]:
        """All variables, the table of weights first."""
        return [*shards_of(self.weights), self.request_floats, self.candidate_floats]

    def logit(self, inputs: ModelInputs) -> tf.Tensor:
        """The weighted sum, float32 [n]; the request's share is computed once per request."""
        request = linear_ids(self.weights, inputs.request_ids, self._request.ids)
        candidate = linear_ids(self.weights, inputs.candidate_ids, self._candidate.ids)
        if self._request.floats:
            request += linear_floats(self.request_floats, inputs.request_floats, self._request.floats)
        if self._candidate.floats:
            candidate += linear_floats(self.candidate_floats, inputs.candidate_floats, self._candidate.floats)
        return inputs.to_candidates(request) + candidate
