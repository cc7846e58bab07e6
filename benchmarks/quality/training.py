"""Trains one model on one log."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.quality.logs import Rows
from benchmarks.quality.results import Trial
from model_training.config.training import TrainingConfig
from model_training.data.examples import Examples
from model_training.data.manifest import log_odds
from model_training.evaluation.metrics import evaluate, recalibrated
from model_training.models.build import build_model
from model_training.training.loop import Progress
from model_training.training.prediction import predict
from model_training.training.single_process import train
from streamer.types import F32

_CURVE_POINTS, _CURVE_ROWS = 12, 50_000
_PREFETCH = 4


def run_trial(log: str, rows: Rows, config: TrainingConfig) -> tuple[Trial, F32]:
    """Trains a model; returns the trial and its corrected scores of held-out rows, float32 [n].

    Raises:
        ConfigError, DataError: as training does.
    """
    training, spec = rows.training, rows.spec
    clicks, n = int(training.labels.sum()), len(training.labels)
    model = build_model(config, spec, log_odds=log_odds(clicks, n))
    first = slice(_CURVE_ROWS)
    some, labels = (rows.held_out.ids[first], rows.held_out.floats[first]), rows.held_out.labels[first]
    every = max(1, n * config.epochs // _CURVE_POINTS)
    curve: list[tuple[int, float]] = []
    judging = 0.0

    def report(progress: Progress) -> None:
        nonlocal judging
        if progress.examples // every > len(curve):
            started = time.monotonic()
            curve.append((progress.examples, evaluate(labels, predict(model, spec, *some)).auc))
            judging += time.monotonic() - started

    result = train(model, spec, array_batches(training, config), config, report)
    trial = Trial(
        log,
        config.model.kind,
        config.model.model_dump(mode="json"),
        sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        n,
        clicks,
        rows.sampling_rate,
        config.epochs,
        result.seconds - judging,
        tuple(curve),
    )
    scores = predict(model, spec, rows.held_out.ids, rows.held_out.floats)
    return trial, recalibrated(scores, rows.sampling_rate)


def array_batches(examples: Examples, config: TrainingConfig) -> tf.data.Dataset:
    """Batches of examples in memory, in a new order in each epoch; reproducible by seed."""
    rng = np.random.default_rng(config.seed)
    n, labels = len(examples.labels), examples.labels.astype(np.float32)

    def batches() -> Iterator[tuple[Any, Any, Any]]:
        for _ in range(config.epochs):
            order = rng.permutation(n)
            for start in range(0, n, config.batch_size):
                taken = order[start : start + config.batch_size]
                yield examples.ids[taken], examples.floats[taken], labels[taken]

    types = (
        tf.TensorSpec([None, examples.ids.shape[1]], tf.int32),
        tf.TensorSpec([None, examples.floats.shape[1]], tf.float32),
        tf.TensorSpec([None], tf.float32),
    )
    return tf.data.Dataset.from_generator(batches, output_signature=types).prefetch(_PREFETCH)
