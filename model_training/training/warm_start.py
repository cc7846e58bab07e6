"""Warm start: a run begins with the weights of a version or of a folder of checkpoints.

Features that both specs have keep their weights and slots; the rest starts as in any other run (`matching`).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from model_training.config.training import FtrlConfig, TrainingConfig
from model_training.errors import DataError, in_a_line
from model_training.export.stored_tables import OBJECT_GRAPH, keys_by_name, name_of
from model_training.identity import IDENTITY, read_identity
from model_training.models.build import OUTPUT_BIAS, build_model
from model_training.models.model import Model
from model_training.training.matching import Matching
from model_training.training.optimizers import WideDeepOptimizer
from model_training.training.source import Source
from streamer.features import FeatureSpec, SpecError
from streamer.types import F32

_CARRIED = {"accumulator", "linear"}
"""Slots that a new run keeps. Adam's moments are corrected by the number of steps, which begins again at 0."""
_SHARD = re.compile(r"(.+)/part_(\d+)(/.+)?")


class Values:
    """The variables of a checkpoint by name, tables whole, of either format of checkpoints."""

    def __init__(self, checkpoint: str) -> None:
        self._checkpoint, self._reader = checkpoint, tf.train.load_checkpoint(checkpoint)
        self._shapes = shapes = self._reader.get_variable_to_shape_map()
        if OBJECT_GRAPH in shapes:
            self._keys = {name: [key] for name, key in keys_by_name(self._reader).items()}
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
class Start:
    """The model from which a run begins.

    Attributes:
        sampling_rate: see `Source.sampling_rate`.
    """

    source: Source
    sampling_rate: float | None
    _spec: FeatureSpec
    _opened: tuple[Values, Matching] | None

    @classmethod
    def open(cls, source: Source, spec: FeatureSpec) -> "Start":
        """Opens the model for a run with `spec`.

        In a cluster of `mirrored` this comes after the runtime has joined it. A model that a run's folder records is
        not opened before `fill` needs it.

        Raises:
            ConfigError, DataError, ExportError: it or its record cannot be read, or it has another encoding.
        """
        if source.record is not None:
            return cls(source, None, spec, None)
        old = _spec_of_version(source.path) if source.is_version else _spec_of_run(source.path)
        try:
            values = Values(source.checkpoint)
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            raise DataError(f"{source.checkpoint}: cannot be read: {in_a_line(error)}") from error
        return cls(source, source.sampling_rate(), spec, (values, Matching.of(old, spec)))

    def lines(self, config: TrainingConfig, spec: FeatureSpec) -> Iterator[str]:
        """What the new model keeps, drops and starts anew, one line each.

        This allocates no memory for the model.

        Raises:
            ConfigError: the spec does not suit the model.
        """
        if self._opened is None:
            yield f"continues a run that began with the weights of {self.source.path}"
            return
        values, matching = self._opened
        yield f"begins with the weights of {self.source.path}; kept: {', '.join(matching.kept) or 'nothing'}"
        yield from (f"feature {name} {why} and starts fresh" for name, why in matching.fresh.items())
        yield from (f"feature {name} is dropped" for name in matching.dropped)
        with tf.Graph().as_default():
            shapes = {v.op.name: v.shape.as_list() for v in build_model(config, spec).trainable_variables}
        for name, shape in shapes.items():
            for feature in matching.fresh_embeddings(name):
                yield f"feature {feature} keeps its other weights, but its embedding starts fresh"
            old = values.shape(matching.old_name(name))
            if old is None:
                yield f"variable {name} starts fresh: the old model has none"
            elif math.prod(shape) and matching.places(name, old, shape) is None:
                yield f"variable {name} {shape} starts fresh: it was {old}, or has other inputs"

    def lines_on_rate(self, rate: float) -> Iterator[str]:
        """A line if `rate`, of the records' non-clicks, is not 1 and the model's own is not known."""
        if self._opened is not None and self.sampling_rate is None and rate != 1:
            yield (
                f"the share of the non-clicks that {self.source.path} learnt is not known, and these records have"
                f" {rate:g} of them: the bias is kept as it is"
            )

    def fill(self, model: Model, optimizer: WideDeepOptimizer, wide: FtrlConfig, *, sampling_rate: float) -> None:
        """Gives the variables and slots of a new model the values that they keep.

        The bias is moved to the click rate of the new sampling: a share q of the non-clicks adds -ln q to log odds.

        Args:
            sampling_rate: share of the non-clicks that the new training records kept.

        Raises:
            ConfigError, ExportError: as `Source.find`.
            DataError: the old values cannot be read, or are no longer those with which the run began.
        """
        if self._opened is None:
            source = Source.find(self.source.path)
            if source.checksum != self.source.checksum:
                raise DataError(f"{source.path}: is no longer the model with which this run began")
            Start.open(source, self._spec).fill(model, optimizer, wide, sampling_rate=sampling_rate)
            return
        for variable in model.trainable_variables:
            if self._fill(variable, name_of(variable)) and name_of(variable) == OUTPUT_BIAS and self.sampling_rate:
                variable.assign_add(math.log(self.sampling_rate / sampling_rate))
        for variable, slots in zip(optimizer.trained, optimizer.slots, strict=True):
            by_name = {name_of(slot).removeprefix(f"{name_of(variable)}/"): slot for slot in slots}
            for name in _CARRIED & by_name.keys():
                self._fill(by_name[name], name_of(variable))
            if "linear" in by_name:
                fit_linear(variable, by_name["accumulator"], by_name["linear"], wide)

    def _fill(self, variable: tf.Variable, of: str) -> bool:
        """Whether the variable keeps values."""
        assert self._opened is not None, "the model is open"
        values, matching = self._opened
        old = values.get(matching.old_name(name_of(variable)))
        places = None if old is None else matching.places(of, old.shape, variable.shape.as_list())
        if old is None or places is None:
            return False
        new = variable.numpy()
        if new.ndim:
            new[np.ix_(*places[1])] = old[np.ix_(*places[0])]
        variable.assign(new if new.ndim else old)
        return True


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
