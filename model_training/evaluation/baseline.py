"""Logistic regression without crosses: the baseline that a deeper model must beat."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from model_training.columns import candidate_columns, request_columns
from model_training.data.examples import Examples
from model_training.errors import DataError
from streamer.features import Layout
from streamer.types import F32, I32

_ITERATIONS = 60


class LogisticBaseline:
    """L2-regularised logistic regression over hashed ids, one-hot, and numbers.

    The ids are those of single features; crosses are not read. Multi-valued features are n-hot; padding is not a
    feature. L-BFGS fits the weights; it is deterministic.
    """

    def __init__(self, layout: Layout, *, inverse_penalty: float = 0.1) -> None:
        self._columns = _single_columns(layout)
        self._rows = layout.table_rows
        self._model = LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS, tol=1e-3)

    def fit(self, examples: Examples) -> "LogisticBaseline":
        """Fits flat rows as records have them.

        Raises:
            DataError: the labels are all equal.
        """
        if len(np.unique(examples.labels)) < 2:
            raise DataError("the labels are all equal: there is nothing to fit")
        with warnings.catch_warnings():
            # The limit on iterations is intended: further iterations change the AUC only in its fourth digit.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self._matrix(examples.ids, examples.floats), examples.labels, examples.weights)
        return self

    def predict(self, ids: I32, floats: F32) -> F32:
        """Click probabilities of flat rows, float32 [n]."""
        probabilities = self._model.predict_proba(self._matrix(ids, floats))[:, 1]
        return np.asarray(probabilities, dtype=np.float32)

    def _matrix(self, ids: I32, floats: F32) -> csr_matrix:
        taken = ids[:, self._columns]
        present = taken != 0
        ends = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        indices = taken[present]
        hot = csr_matrix((np.ones(len(indices), np.float32), indices, ends), shape=(len(ids), self._rows))
        return hstack([hot, csr_matrix(floats)], format="csr") if floats.shape[1] else hot


def _single_columns(layout: Layout) -> Sequence[int]:
    request, candidate = request_columns(layout), candidate_columns(layout)
    return [*request.single.ids, *(request.id_width + column for column in candidate.single.ids)]
