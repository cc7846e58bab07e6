"""An exported version, loaded as a server loads it, and checked before it serves."""

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from model_training.config.training import Compute
from model_training.errors import BrokenVersionError, ExportError, in_a_line
from model_training.export.signatures import flat_specs, score_specs
from model_training.export.versions import folder_bytes
from model_training.export.warmup import WARMUP
from model_training.export.weights import NO_WEIGHTS
from streamer.features import FeatureSpec, Layout
from streamer.types import F32, I32

_BATCH = 4096
_PASSING = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnauthenticatedError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
    MemoryError,
)
"""Errors of the machine or the file system, and not of the version."""
_AGREEMENT: Mapping[Compute, float] = {"float32": 1e-5, "bfloat16": 1e-2}
_TIMED_ROWS = 300


Rows = tuple[I32, F32]
"""Ids and floats of flat rows."""


@dataclass(frozen=True, slots=True)
class Servable:
    """A loaded version whose signatures match its own feature spec.

    Attributes:
        parameters: number of parameters in its variables.
        compute: number format in which the dense layers compute.
    """

    path: Path
    spec: FeatureSpec
    parameters: int
    file_bytes: int
    compute: Compute
    _loaded: Any

    @classmethod
    def load(cls, path: Path) -> "Servable":
        """Loads a version's folder.

        Raises:
            BrokenVersionError: it is damaged; or its spec or a signature is missing or wrong.
            ExportError: it cannot be loaded now.
        """
        try:
            loaded = tf.saved_model.load(str(path))
            weights = tf.train.list_variables(str(path / "variables" / "variables"))
        except Exception as error:  # TensorFlow raises many types for damaged files
            raise _failure(f"{path}: cannot be loaded", error) from error
        signatures = loaded.signatures
        missing = {"serving_default", "score", "feature_spec"} - set(signatures)
        if missing:
            raise BrokenVersionError(f"{path}: has no signature {', '.join(sorted(missing))}")
        try:
            spec = FeatureSpec.from_json(signatures["feature_spec"]()["spec"].numpy())
        except Exception as error:  # the signature may be one of any model
            raise _failure(f"{path}: signature feature_spec", error) from error
        layout = Layout(spec)
        for name, wanted in (("serving_default", flat_specs(layout)), ("score", score_specs(layout))):
            _check_signature(path, name, signatures[name], wanted)
        counted = sum(int(np.prod(shape)) for name, shape in weights if not name.startswith(NO_WEIGHTS))
        compute: Compute = "bfloat16" if hasattr(loaded, "float32") else "float32"
        return cls(path, spec, counted, folder_bytes(path), compute, loaded)

    def scores(self, ids: I32, floats: F32) -> F32:
        """Click probabilities of n flat rows, float32 [n], by `serving_default`.

        Raises:
            BrokenVersionError: the signature fails; or a score is not in [0, 1], or not a number.
            ExportError: the signature fails now, for example because there is too little memory.
        """
        return self._scores(self._default, ids, floats)

    def float32_scores(self, ids: I32, floats: F32) -> F32:
        """The scores if all of the model computed in float32, for a version with another `compute`.

        Raises:
            BrokenVersionError, ExportError: as `scores` does.
        """
        function = self._loaded.float32
        return self._scores(lambda *rows: self._flat("function float32", function, *rows), ids, floats)

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibration is a part of the version."""
        return hasattr(self._loaded, "uncalibrated")

    def uncalibrated_scores(self, ids: I32, floats: F32) -> F32:
        """The scores without the calibration, for a version that has one.

        Raises:
            BrokenVersionError, ExportError: as `scores` does.
        """
        function = self._loaded.uncalibrated
        return self._scores(lambda *rows: self._flat("function uncalibrated", function, *rows), ids, floats)

    def check_warmup(self) -> None:
        """Requires warm-up requests: without them, the first calls of users are slow.

        Raises:
            ExportError: there are none.
        """
        if not (self.path / WARMUP).is_file():
            raise ExportError(f"{self.path}: has no warm-up requests in {WARMUP}")

    def check_agreement(self, ids: I32, floats: F32) -> None:
        """Compares the two scoring signatures on flat rows.

        Raises:
            ExportError: one of them fails, or their scores differ by more than 1e-5; in bfloat16 by more than 0.01.
        """
        layout = Layout(self.spec)
        one_each = np.arange(len(ids), dtype=np.int32)
        by_score = self._score(factored(layout, (ids, floats), (ids, floats), one_each))
        apart = float(np.abs(by_score - self._default(ids, floats)).max(initial=0.0))
        if not apart <= _AGREEMENT[self.compute]:
            raise ExportError(f"{self.path}: signatures score and serving_default differ by {apart:g}")

    def score_seconds(self, ids: I32, floats: F32, calls: int) -> list[float]:
        """Durations of `score` for one request of 300 candidates, without the first calls.

        The inputs are made from flat rows.

        Raises:
            BrokenVersionError, ExportError: as `scores` does.
        """
        rows = np.arange(_TIMED_ROWS) % len(ids)
        layout = Layout(self.spec)
        owner = np.zeros(_TIMED_ROWS, np.int32)
        inputs = factored(layout, (ids[:1], floats[:1]), (ids[rows], floats[rows]), owner)
        seconds = []
        for _ in range(calls + max(3, calls // 10)):
            started = time.perf_counter()
            self._score(inputs)
            seconds.append(time.perf_counter() - started)
        return seconds[-calls:]

    def _scores(self, score: Callable[[I32, F32], F32], ids: I32, floats: F32) -> F32:
        parts = [score(ids[at : at + _BATCH], floats[at : at + _BATCH]) for at in range(0, len(ids), _BATCH)]
        ctr = np.concatenate(parts) if parts else np.empty(0, np.float32)
        # The negation also rejects NaN.
        if not np.all((ctr >= 0) & (ctr <= 1)):
            raise BrokenVersionError(f"{self.path}: a score is not in [0, 1]")
        return ctr

    def _default(self, ids: I32, floats: F32) -> F32:
        return self._flat("signature serving_default", self._loaded.signatures["serving_default"], ids, floats)

    def _flat(self, what: str, function: Any, ids: I32, floats: F32) -> F32:
        return self._called(what, function, {"ids": ids, "floats": floats}, len(ids))

    def _score(self, inputs: dict[str, Any]) -> F32:
        rows = len(inputs["row_to_request"])
        return self._called("signature score", self._loaded.signatures["score"], inputs, rows)

    def _called(self, what: str, function: Any, inputs: dict[str, Any], rows: int) -> F32:
        try:
            wanted = function.structured_input_signature[1]
            tensors = {key: tf.constant(value) for key, value in inputs.items() if key in wanted}
            ctr: F32 = function(**tensors)["ctr"].numpy()
        except Exception as error:  # the function may be one of any model
            raise _failure(f"{self.path}: {what} fails", error) from error
        if ctr.shape != (rows,):
            raise BrokenVersionError(f"{self.path}: {what} gives scores of shape {ctr.shape} for {rows} rows")
        return ctr


def _failure(what: str, error: Exception) -> ExportError:
    passes = isinstance(error, _PASSING) or (isinstance(error, OSError) and error.errno not in (None, errno.ENOENT))
    return (ExportError if passes else BrokenVersionError)(f"{what}: {in_a_line(error) or type(error).__name__}")


def _check_signature(path: Path, name: str, signature: Any, wanted: dict[str, tf.TensorSpec]) -> None:
    found = signature.structured_input_signature[1]
    for key in sorted(set(wanted) | set(found)):
        if key not in found or key not in wanted:
            missing = "has no" if key in wanted else "has an unknown"
            raise BrokenVersionError(f"{path}: signature {name} {missing} input {key!r}")
        have, need = ((spec.dtype.name, spec.shape.as_list()) for spec in (found[key], wanted[key]))
        if have != need:
            raise BrokenVersionError(f"{path}: signature {name}: input {key!r} is {have}, not {need} as its spec says")
    output = signature.structured_outputs.get("ctr")
    if output is None or output.dtype != tf.float32:
        raise BrokenVersionError(f"{path}: signature {name} has no output 'ctr' of float32")


def factored(layout: Layout, request: Rows, candidates: Rows, row_to_request: I32) -> dict[str, Any]:
    """Inputs of `score`, from the flat rows `request` and the flat rows `candidates`."""
    a, b, c = layout.id_width("request"), layout.id_width("candidate"), layout.float_width("request")
    return {
        "request_ids": request[0][:, :a],
        "request_floats": request[1][:, :c],
        "candidate_ids": candidates[0][:, a : a + b],
        "candidate_floats": candidates[1][:, c:],
        "pair_ids": candidates[0][:, a + b :],
        "row_to_request": row_to_request,
    }
