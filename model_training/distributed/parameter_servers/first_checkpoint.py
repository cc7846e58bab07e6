"""The first checkpoint of a warm start, which parameter servers restore like any other one.

The process that writes it holds the whole model and its slots in memory, once.
"""

import numpy as np
import tensorflow as tf

from model_training.checkpoints import not_written
from model_training.distributed.parameter_servers.partition import bounds, shard_name
from model_training.distributed.run import Run
from model_training.models.build import build_model
from model_training.training.optimizers import WideDeepOptimizer
from model_training.training.warm_start import Start

_AT_START = ("global_step", "batches_taken", "stop_at")


def write_first_checkpoint(run: Run, start: Start) -> None:
    """Writes a checkpoint with the first values of all variables on parameter servers.

    Raises:
        ConfigError: the spec does not suit the model.
        DataError: the values of `start` cannot be read.
        ExportError: the checkpoint cannot be written.
    """
    config = run.config
    model = build_model(config, run.spec)
    optimizer = WideDeepOptimizer(model, config.wide, config.deep)
    start.fill(model, optimizer, config.wide, sampling_rate=run.manifest.negative_sampling_rate)
    tables = {id(table) for table in model.tables}
    tensors: dict[str, tf.Tensor] = {name: tf.zeros([], tf.int64) for name in _AT_START}
    for variable, slots in zip(optimizer.trained, optimizer.slots, strict=True):
        name = variable.name.split(":")[0]
        shards = [(name, 0, 0)]
        if id(variable) in tables:
            cuts = enumerate(bounds(variable.shape[0], config.distributed.table_shards))
            shards = [(shard_name(name, i), first, end) for i, (first, end) in cuts]
        for value in (variable, *slots):
            suffix = value.name.split(":")[0].removeprefix(name)
            for shard, first, end in shards:
                tensors[shard + suffix] = value[first:end] if end else value.read_value()
    prefix = str(run.checkpoints / "model.ckpt-0")
    try:
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=list(tensors),
            shape_and_slices=np.full(len(tensors), ""),
            tensors=list(tensors.values()),
        )
        tf.compat.v1.train.update_checkpoint_state(str(run.checkpoints), prefix)
    except (OSError, tf.errors.OpError) as error:
        raise not_written(run.checkpoints, error) from error
