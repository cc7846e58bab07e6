"""Warm start: a run begins with the weights of a version or of a folder of checkpoints.

Features that both specs have keep their weights and slots; the rest starts as in any other run (`matching`).
"""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from model_training.config.training import FtrlConfig, TrainingConfig
from model_training.early_stopping.best_model import BestModel
from model_training.errors import ConfigError, DataError, in_a_line
from model_training.identity import IDENTITY, read_identity
from model_training.lineage.lineage import Rows, read_lineage
from model_training.models.build import build_model
from model_training.models.model import Model
from model_training.training.matching import Matching
from model_training.training.optimizers import WideDeepOptimizer
from streamer.features import FeatureSpec, SpecError
from streamer.types import F32

FINAL = "final"
"""Folder of the final fit inside that of the run before it."""
_CARRIED = {"accumulator", "linear"}
"""Slots that a new run keeps. Adam's moments are corrected by the number of steps, which begins again at 0."""
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_SHARD = re.compile(r"(.+)/part_(\d+)(/.+)?")


class Values:
    """The variables of a checkpoint by name, tables whole, of either format of checkpoints."""

    def __init__(self, checkpoint: str) -> None:
        self._checkpoint, self._reader = checkpoint, tf.train.load_checkpoint(checkpoint)
        self._shapes = shapes = self._reader.get_variable_to_shape_map()
        if _GRAPH in shapes:
            nodes = TrackableObjectGraph.FromString(self._reader.get_tensor(_GRAPH)).nodes
            self._keys = {a.full_name: [a.checkpoint_key] for node in nodes for a in node.attributes if a.full_name}
            return
        parts: dict[str, dict[int, str]] = {}
        for key in shapes:
            found = _SHARD.fullmatch(key)
            name, index = (key, 0) if found is None else (found[1] + (found[3] or ""), int(found[2]))
            parts.setdefault(name, {})[index] = key
        self._keys = {name: [shards[i] for i in sorted(shards)] for name, shards in parts.items()}

    def shape(self, name: str) -> list[int] | None:
        """The shape of a variable or slot; None if there is none."""
        shards = [self._shapes[key] for key in self._keys.get(name, ())]
        return None if not shards else [sum(s[0] for s in shards), *shards[0][1:]] if shards[0] else []

    def get(self, name: str) -> F32 | None:
        """The value of a variable or slot; None if there is none.

        Raises:
            DataError: it cannot be read.
        """
        try:
            shards = [np.asarray(self._reader.get_tensor(key)) for key in self._keys.get(name, ())]
        except (RuntimeError, LookupError, ValueError, tf.errors.OpError) as error:
            raise DataError(f"{self._checkpoint}: is damaged: {in_a_line(error)}") from error
        return None if not shards else shards[0] if len(shards) == 1 else np.concatenate(shards)


@dataclass(frozen=True, slots=True)
class Source:
    """An exported version, or the result of the run of a folder of checkpoints.

    Attributes:
        checksum: of the file that lists the checksums of all variables.
    """

    path: Path
    is_version: bool
    checkpoint: str
    checksum: str

    @classmethod
    def find(cls, path: Path) -> "Source":
        """Finds the model at a path, without TensorFlow's runtime.

        Raises:
            ConfigError: there is none, or an older version wrote the folder.
            DataError: it cannot be read.
        """
        is_version = (path / "saved_model.pb").exists()
        if not is_version and read_identity(path) is None:
            raise ConfigError(f"--warm-start {path}: neither an exported version nor a folder of checkpoints")
        checkpoint = str(path / "variables" / "variables") if is_version else _result_of_run(path)
        try:
            checksum = hashlib.sha256(Path(f"{checkpoint}.index").read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise DataError(f"{checkpoint}.index: cannot be read: {in_a_line(error)}") from error
        return cls(path, is_version, checkpoint, checksum)

    @property
    def identity(self) -> dict[str, str]:
        """Path and checksum, for the identity of a run."""
        return {"path": str(self.path), "sha256": self.checksum}

    @property
    def for_run(self) -> dict[str, Any]:
        """The arguments of `RunIdentity.of` for a run that begins with this model; raises as `seen`."""
        seen = self.seen()
        return {"start": self.identity, "seen_before": None if seen is None else [asdict(rows) for rows in seen]}

    def seen(self) -> tuple[Rows, ...] | None:
        """The rows that the model and those before it have seen; None if they are not known.

        Raises:
            ConfigError, ExportError: its record cannot be read.
        """
        if not self.is_version:
            found = read_identity(self.path) or {}
            parts = found.get("seen")
            return None if parts is None else tuple(Rows(**part) for part in parts)
        lineage = read_lineage(self.path)
        if lineage is None:
            return None
        return () if lineage.data is None else lineage.data.all_seen


@dataclass(frozen=True, slots=True)
class Start:
    """The model from which a run begins."""

    source: Source
    _values: Values
    _matching: Matching

    @classmethod
    def open(cls, source: Source, spec: FeatureSpec) -> "Start":
        """Opens the model for a run with `spec`.

        In a cluster of `mirrored` this comes after the runtime has joined it.

        Raises:
            DataError: it cannot be read, or has another encoding.
        """
        old = _spec_of_version(source.path) if source.is_version else _spec_of_run(source.path)
        try:
            values = Values(source.checkpoint)
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            raise DataError(f"{source.checkpoint}: cannot be read: {in_a_line(error)}") from error
        return cls(source, values, Matching.of(old, spec))

    def lines(self, config: TrainingConfig, spec: FeatureSpec) -> Iterator[str]:
        """What the new model keeps, drops and starts anew, one line each.

        This allocates no memory for the model.

        Raises:
            ConfigError: the spec does not suit the model.
        """
        yield f"begins with the weights of {self.source.path}; kept: {', '.join(self._matching.kept) or 'nothing'}"
        yield from (f"feature {name} {why} and starts fresh" for name, why in self._matching.fresh.items())
        yield from (f"feature {name} is dropped" for name in self._matching.dropped)
        with tf.Graph().as_default():
            shapes = {v.op.name: v.shape.as_list() for v in build_model(config, spec).trainable_variables}
        for name, shape in shapes.items():
            old = self._values.shape(self._matching.old_name(name))
            if old is None:
                yield f"variable {name} starts fresh: the old model has none"
            elif math.prod(shape) and self._matching.places(name, old, shape) is None:
                yield f"variable {name} {shape} starts fresh: it was {old}, or has other inputs"

    def fill(self, model: Model, optimizer: WideDeepOptimizer, wide: FtrlConfig) -> None:
        """Gives the variables and slots of a new model the values that they keep.

        Raises:
            DataError: the old values cannot be read.
        """
        for variable in model.trainable_variables:
            self._fill(variable, _name(variable))
        for variable, slots in zip(optimizer.trained, optimizer.slots, strict=True):
            by_name = {_name(slot).removeprefix(f"{_name(variable)}/"): slot for slot in slots}
            for name in _CARRIED & by_name.keys():
                self._fill(by_name[name], _name(variable))
            if "linear" in by_name:
                fit_linear(variable, by_name["accumulator"], by_name["linear"], wide)

    def _fill(self, variable: tf.Variable, of: str) -> None:
        old = self._values.get(self._matching.old_name(_name(variable)))
        places = None if old is None else self._matching.places(of, old.shape, variable.shape.as_list())
        if old is None or places is None:
            return
        new = variable.numpy()
        if new.ndim:
            new[np.ix_(*places[1])] = old[np.ix_(*places[0])]
        variable.assign(new if new.ndim else old)


def for_run(source: Source | None) -> dict[str, Any]:
    """The arguments of `RunIdentity.of` for a run that begins with this model, if with one."""
    return {} if source is None else source.for_run


def fit_linear(variable: tf.Variable, accumulator: tf.Variable, linear: tf.Variable, settings: FtrlConfig) -> None:
    """Sets FTRL's slot z so that the weights follow from it.

    Otherwise the first step would overwrite the weights.
    w = -(z - sign(z) λ1) / (√n / α + 2 λ2) gives z = -(w (√n / α + 2 λ2) + sign(w) λ1); for w = 0 it is |z| <= λ1.
    """
    weights, sums, before = variable.numpy(), accumulator.numpy(), linear.numpy()
    scale = np.sqrt(sums) / settings.learning_rate + 2 * settings.l2
    fitted = -(weights * scale + np.sign(weights) * settings.l1)
    linear.assign(np.where(weights == 0, np.clip(before, -settings.l1, settings.l1), fitted))


def _spec_of_version(path: Path) -> FeatureSpec:
    try:
        return FeatureSpec.from_json(tf.saved_model.load(str(path)).signatures["feature_spec"]()["spec"].numpy())
    except (OSError, ValueError, KeyError, SpecError, tf.errors.OpError) as error:
        raise DataError(f"{path}: its feature spec cannot be read: {in_a_line(error)}") from error


def _spec_of_run(path: Path) -> FeatureSpec:
    found = read_identity(path) or {}
    try:
        spec = FeatureSpec.from_mapping(found["features"], f"{path / IDENTITY}: features")
    except (KeyError, SpecError) as error:
        raise DataError(f"{path / IDENTITY}: its feature spec cannot be read: {in_a_line(error)}") from error
    if spec.hash != found.get("spec"):
        raise DataError(f"{path}: its model was trained with another version of the encoder, whose ids differ")
    return spec


def _result_of_run(path: Path) -> str:
    final = tf.train.latest_checkpoint(str(path / FINAL))
    if final is None and (standing := BestModel(path).read()) is not None:
        return BestModel(path).checkpoint(standing)
    last = final or tf.train.latest_checkpoint(str(path))
    if last is None:
        raise DataError(f"{path}: holds no checkpoint")
    return str(last)


def _name(variable: tf.Variable) -> str:
    return str(variable.name.split(":")[0])
