"""The evaluations of a run with parameter servers that continues from a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.training import EarlyStoppingConfig, TrainingConfig
from model_training.data.examples import Examples
from model_training.data.manifest import Manifest
from model_training.data.records import write_records
from model_training.data.training_data import stored
from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.parameter_servers.stopping_hook import StoppingHook, stop_variable
from model_training.distributed.parameter_servers.variables import PartitionedVariables
from model_training.distributed.run import Run
from model_training.early_stopping.best_model import BestModel
from model_training.early_stopping.standing import Standing
from model_training.early_stopping.validation import Validation
from model_training.models.build import build_model
from streamer.features import FeatureSpec, Layout

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("first", "evaluated"),
    [
        (3, 40),  # the first step after the restart makes an evaluation due
        (4, 40),  # killed between the checkpoint and the evaluation
        (1, 20),
    ],
)
def test_a_restart_skips_no_evaluation(first: int, evaluated: int, tmp_path: Path, spec: FeatureSpec) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": "logistic_regression", "batch_size": 10})
    layout = Layout(spec)
    rows = np.zeros((2, layout.row_ids), np.int32), np.zeros((2, layout.row_floats), np.float32)
    records = tmp_path / "records"
    stream = stored(records, write_records([Examples(*rows, np.array([0, 1], np.int8))], records, spec, shards=1))
    manifest = Manifest("small", spec.hash, 90, 9, layout.row_ids, layout.row_floats, 1.0, (), "", 64)
    run = Run(Cluster(("h:1",), "h:2"), Task("chief", 0), config, spec, tmp_path, manifest, tmp_path)
    best = BestModel(tmp_path)
    if first > 1:
        best.write(Standing(0.5, 20, 20), lambda path: None)
    with tf.Graph().as_default():
        step = tf.compat.v1.train.create_global_step()
        restored = step.assign(first)
        made = tf.compat.v1.assign_add(step, 1)
        hook = StoppingHook(
            run,
            EarlyStoppingConfig(patience=9),
            Validation(stream, 1.0, 20),
            build_model(config, spec, create=PartitionedVariables(1)),
            made=made,
            stop_at=stop_variable(),
        )
        scaffold = tf.compat.v1.train.Scaffold(init_fn=lambda _, session: session.run(restored))
        with tf.compat.v1.train.SingularMonitoredSession([hook], scaffold=scaffold) as session:
            session.run(made)
            found = best.read()
    assert found is not None
    assert found.evaluated == evaluated
