"""An exported version, loaded as a server loads it, and checked before it serves."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from model_training.errors import DataError, ExportError
from model_training.export.signatures import flat_specs, score_specs
from model_training.export.versions import folder_bytes
from model_training.export.warmup import WARMUP
from streamer.features import FeatureSpec, Layout, SpecError
from streamer.types import F32, I32

_BATCH = 4096
_AGREEMENT = 1e-5
_TIMED_ROWS = 300
_NO_WEIGHTS = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")


Rows = tuple[I32, F32]
"""Ids and floats of flat rows."""


@dataclass(frozen=True, slots=True)
class Servable:
    """A loaded version whose signatures match its own feature spec.

    Attributes:
        parameters: number of parameters in its variables.
    """

    path: Path
    spec: FeatureSpec
    parameters: int
    file_bytes: int
    _loaded: Any

    @classmethod
    def load(cls, path: Path) -> "Servable":
        """Loads a version's folder.

        Raises:
            ExportError: the version cannot be loaded; or its spec, a signature or its warm-up is missing or wrong.
        """
        try:
            loaded = tf.saved_model.load(str(path))
            weights = tf.train.list_variables(str(path / "variables" / "variables"))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise ExportError(f"{path}: cannot be loaded: {str(error).splitlines()[0]}") from error
        signatures = loaded.signatures
        missing = {"serving_default", "score", "feature_spec"} - set(signatures)
        if missing:
            raise ExportError(f"{path}: has no signature {', '.join(sorted(missing))}")
        try:
            spec = FeatureSpec.from_json(signatures["feature_spec"]()["spec"].numpy())
        except (KeyError, SpecError) as error:
            raise ExportError(f"{path}: signature feature_spec: {error}") from error
        layout = Layout(spec)
        for name, wanted in (("serving_default", flat_specs(layout)), ("score", score_specs(layout))):
            _check_signature(path, name, signatures[name], wanted)
        if not (path / WARMUP).is_file():
            raise ExportError(f"{path}: has no warm-up requests in {WARMUP}")
        counted = sum(int(np.prod(shape)) for name, shape in weights if not name.startswith(_NO_WEIGHTS))
        return cls(path, spec, counted, folder_bytes(path), loaded)

    def scores(self, ids: I32, floats: F32) -> F32:
        """Click probabilities of n flat rows, float32 [n], by `serving_default`.

        Raises:
            DataError: a score is not in [0, 1], or not a number.
        """
        parts = [self._flat(ids[at : at + _BATCH], floats[at : at + _BATCH]) for at in range(0, len(ids), _BATCH)]
        ctr = np.concatenate(parts) if parts else np.empty(0, np.float32)
        # The negation also rejects NaN.
        if not np.all((ctr >= 0) & (ctr <= 1)):
            raise DataError(f"{self.path}: a score is not in [0, 1]")
        return ctr

    def check_agreement(self, ids: I32, floats: F32) -> None:
        """Compares the two scoring signatures on flat rows.

        Raises:
            ExportError: their scores differ by more than 1e-5.
        """
        layout = Layout(self.spec)
        one_each = np.arange(len(ids), dtype=np.int32)
        factored = self._call("score", _factored(layout, (ids, floats), (ids, floats), one_each))
        apart = float(np.abs(factored - self._flat(ids, floats)).max(initial=0.0))
        if not apart <= _AGREEMENT:
            raise ExportError(f"{self.path}: signatures score and serving_default differ by {apart:g}")

    def score_seconds(self, ids: I32, floats: F32, calls: int) -> list[float]:
        """Durations of `score` for one request of 300 candidates, without the first calls.

        The inputs are made from flat rows.
        """
        rows = np.arange(_TIMED_ROWS) % len(ids)
        layout = Layout(self.spec)
        owner = np.zeros(_TIMED_ROWS, np.int32)
        inputs = _factored(layout, (ids[:1], floats[:1]), (ids[rows], floats[rows]), owner)
        seconds = []
        for _ in range(calls + max(3, calls // 10)):
            started = time.perf_counter()
            self._call("score", inputs)
            seconds.append(time.perf_counter() - started)
        return seconds[-calls:]

    def _flat(self, ids: I32, floats: F32) -> F32:
        return self._call("serving_default", {"ids": ids, "floats": floats})

    def _call(self, name: str, inputs: dict[str, Any]) -> F32:
        signature = self._loaded.signatures[name]
        wanted = signature.structured_input_signature[1]
        tensors = {key: tf.constant(value) for key, value in inputs.items() if key in wanted}
        return signature(**tensors)["ctr"].numpy()  # type: ignore[no-any-return]


def _check_signature(path: Path, name: str, signature: Any, wanted: dict[str, tf.TensorSpec]) -> None:
    found = signature.structured_input_signature[1]
    for key in sorted(set(wanted) | set(found)):
        if key not in found or key not in wanted:
            missing = "has no" if key in wanted else "has an unknown"
            raise ExportError(f"{path}: signature {name} {missing} input {key!r}")
        have, need = ((spec.dtype.name, spec.shape.as_list()) for spec in (found[key], wanted[key]))
        if have != need:
            raise ExportError(f"{path}: signature {name}: input {key!r} is {have}, not {need} as its spec says")
    output = signature.structured_outputs.get("ctr")
    if output is None or output.dtype != tf.float32:
        raise ExportError(f"{path}: signature {name} has no output 'ctr' of float32")


def _factored(layout: Layout, request: Rows, candidates: Rows, row_to_request: I32) -> dict[str, Any]:
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
