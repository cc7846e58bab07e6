"""The final fit: a new model learns the training and the validation examples.

Early stopping keeps the newest examples before the hold-out for its evaluations. The final fit learns them too, in as
many epochs as early stopping found. It has no evaluation of its own: the one of early stopping is recorded beside it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.examples import Examples, Stream, rebatched
from model_training.data.input_pipeline import training_batches
from model_training.data.manifest import Manifest, without_damaged
from model_training.data.prepared import validation_records
from model_training.data.records import write_records
from model_training.data.training_data import WRITTEN_BLOCK, stored
from model_training.early_stopping.standing import Standing
from model_training.identity import RunIdentity
from model_training.models.model import Model
from model_training.training.loop import Report, TrainResult
from model_training.training.single_process import train_run
from model_training.training.source import FINAL, RECORDS, examples_of_final_fit, for_run
from model_training.training.warm_start import Start
from streamer.features import FeatureSpec


def all_records(
    directory: Path, manifest: Manifest, spec: FeatureSpec, config: TrainingConfig, scratch: Path
) -> Manifest:
    """The training and the validation records of a folder as one set of records.

    File names are relative to `directory`, or absolute. If the training records kept only a share of the non-clicks,
    `config.seed` chooses this share of the validation non-clicks, and these records are written to `scratch`.

    Raises:
        DataError: there are no validation records, or they are damaged; or the records cannot be written.
    """
    folder, later = validation_records(directory)
    later, _ = without_damaged(folder, later, max_lost_share=config.max_lost_share)
    if later.negative_sampling_rate != manifest.negative_sampling_rate:
        rate = manifest.negative_sampling_rate / later.negative_sampling_rate
        kept = thinned(stored(folder, later), rate, config.seed)
        folder, later = (
            scratch,
            write_records(
                rebatched(kept, WRITTEN_BLOCK),
                scratch,
                spec,
                negative_sampling_rate=manifest.negative_sampling_rate,
                compression=manifest.compression,
            ),
        )
    shards = later.shards
    if folder != directory:
        shards = tuple(replace(shard, file=str(folder.absolute() / shard.file)) for shard in shards)
    return replace(
        manifest,
        shards=(*manifest.shards, *shards),
        examples=manifest.examples + later.examples,
        positives=manifest.positives + later.positives,
    )


def final_fit(
    directory: Path,
    manifest: Manifest,
    spec: FeatureSpec,
    config: TrainingConfig,
    *,
    found: Standing,
    checkpoints: Path,
    start: Start | None = None,
    progress: Callable[[int], AbstractContextManager[Report | None]] = lambda _: nullcontext(),
) -> tuple[Model, TrainResult]:
    """Trains a new model on the training and validation records, or continues with it.

    Args:
        manifest: the training records, without the validation records.
        found: the result of early stopping.
        checkpoints: folder of the run that early stopping ended; the final fit has a folder inside it.
        start: the model from which the run before began, and from which the final fit begins too.
        progress: gives the report of a run that learns this number of examples.

    Raises:
        ConfigError: the folder holds another final fit.
        DataError, ExportError: as `single_process.train_records`.
    """
    assert config.early_stopping is not None, "a final fit repeats early stopping"
    folder = checkpoints / FINAL
    validated = {"metric": config.early_stopping.metric, "value": found.value, "examples": found.examples}
    identity = RunIdentity.of(
        config, spec, directory, manifest, found=validated, **for_run(None if start is None else start.source)
    )
    whole = all_records(directory, manifest, spec, config, folder / RECORDS)
    wanted = examples_of_final_fit(found.examples, manifest.examples, whole.examples)
    steps = math.ceil(wanted / config.batch_size)

    def data(done: int) -> tf.data.Dataset:
        batches = training_batches(directory, whole, config, epochs=None, skip=done)
        return batches.take(max(0, steps - done))

    with progress(wanted) as report:
        model, result = train_run(
            whole, spec, config, data, report, folder=folder, identity=identity, steps=steps, start=start
        )
    return model, replace(result, best=found)


def thinned(examples: Stream, rate: float, seed: int) -> Iterator[Examples]:
    """All clicks and a share `rate` of the non-clicks; the blocks do not change which ones."""
    rng = np.random.default_rng(seed)
    for block in examples.blocks():
        kept = rng.random(len(block)) < rate
        yield block[np.flatnonzero(kept | (block.labels == 1))]
