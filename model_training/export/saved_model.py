"""Exports a trained model as a version that TensorFlow Serving loads: whole, or not at all."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tensorflow as tf

from model_training.calibration import Calibration
from model_training.config.training import Compute
from model_training.errors import ExportError, in_a_line
from model_training.export.calibration import write_calibration
from model_training.export.signatures import build
from model_training.export.stored_tables import StoredTables, name_of, write_tables
from model_training.export.versions import folder_bytes, new_version
from model_training.export.warmup import WARMUP, write_warmup
from model_training.lineage.lineage import Lineage, write_lineage
from model_training.models.model import Model
from streamer.features import FeatureSpec, Layout


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Number of parameters of a model by kind, and the bytes of its exported folder."""

    dense_parameters: int
    embedding_parameters: int
    wide_parameters: int
    file_bytes: int


def export(
    model: Model,
    spec: FeatureSpec,
    base_path: Path,
    version: int,
    *,
    model_name: str | None = None,
    negative_sampling_rate: float = 1.0,
    compute: Compute = "float32",
    tables: StoredTables | None = None,
    calibration: Calibration | None = None,
    lineage: Lineage | None = None,
) -> Path:
    """Writes `base_path/version` and returns it.

    The version appears whole; after a failure nothing remains (`new_version`).

    Args:
        version: a positive integer; servers prefer the highest.
        model_name: the model's name in warm-up requests, by default the name of the folder `base_path`.
        negative_sampling_rate: share of the non-clicks that the training data kept, in (0, 1].
        compute: number format of the dense layers. A version that computes in bfloat16 also has the float32 form of
            `serving_default`, as the function `float32`, which servers do not see; the gate compares the two.
        tables: tables of `model` that are read from a checkpoint, one shard at a time; their variables have no rows.
        calibration: the map of its scores. The version then has the form of `serving_default` without it, as the
            function `uncalibrated`, and a record of the fit in a file.
        lineage: how the model was made; the version has it in a file.

    Raises:
        ExportError: the version exists, is not positive, or cannot be written; or the rate is not in (0, 1].
    """
    if not 0 < negative_sampling_rate <= 1:
        raise ExportError(f"negative_sampling_rate {negative_sampling_rate}: must be in (0, 1]")
    final = base_path / str(version)
    with new_version(base_path, version) as partial:
        try:
            rate = negative_sampling_rate
            _save(model, spec, partial, negative_sampling_rate=rate, compute=compute, calibration=calibration)
            if tables:
                write_tables(partial / "variables", tables)
        except tf.errors.OpError as error:
            raise ExportError(f"{final}: cannot be written: {in_a_line(error)}") from error
        write_warmup(Layout(spec), partial / WARMUP, model_name or base_path.resolve().name)
        if calibration is not None:
            write_calibration(partial, calibration)
        if lineage is not None:
            write_lineage(partial, lineage)
    return final


def model_size(model: Model, exported: Path, tables: StoredTables | None = None) -> ModelSize:
    """The size of `model` with its tables in a checkpoint, and of its exported folder."""

    def count(variable: tf.Variable) -> int:
        stored = (tables or {}).get(name_of(variable))
        return int(variable.shape.num_elements()) if stored is None else stored.elements

    wide = sum(count(v) for v in model.wide_variables)
    wide_ids = {id(v) for v in model.wide_variables}
    embedding = sum(count(v) for v in model.tables if id(v) not in wide_ids)
    total = sum(count(v) for v in model.trainable_variables)
    return ModelSize(total - wide - embedding, embedding, wide, folder_bytes(exported))


def _save(
    model: Model,
    spec: FeatureSpec,
    path: Path,
    *,
    negative_sampling_rate: float,
    compute: Compute,
    calibration: Calibration | None,
) -> None:
    servable = tf.Module(name="servable")
    servable.model = model
    forms = partial(build, model, spec, negative_sampling_rate=negative_sampling_rate)
    if compute != "float32":
        servable.float32 = forms(calibration=calibration)["serving_default"]
    if calibration is not None:
        servable.uncalibrated = forms(compute=compute)["serving_default"]
    signatures = forms(compute=compute, calibration=calibration)
    tf.saved_model.save(servable, str(path), signatures=signatures)
