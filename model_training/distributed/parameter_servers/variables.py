"""A model's variables on parameter servers: tables in shards, each on an assigned server."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, takewhile
from typing import Any, cast

import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.distributed.parameter_servers.optimizer import Gradient
from model_training.distributed.parameter_servers.partition import bounds, check_shape, merge, shard_name
from model_training.distributed.parameter_servers.placement import Placement, greedy, loads
from model_training.distributed.parameter_servers.sharded_table import ShardedTable
from model_training.errors import DataError, in_a_line
from model_training.export.stored_tables import StoredTable, StoredTables, name_of
from model_training.models.build import build_model
from model_training.models.model import Model
from model_training.parts.variables import Initializer, TableInitializer, create_variable
from model_training.training.optimizers import Rule, Rules
from model_training.training.schedule import START, Clock
from streamer.features import FeatureSpec

_FLOAT_BYTES = 4
_UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, tf.errors.OpError)


class PartitionedVariables:
    """Creates graph variables, tables in `shards` shards; initial values as in whole tables.

    Each variable's server computes its initial value, so no process holds a whole table.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def __call__(
        self, name: str, shape: Sequence[int], initializer: Initializer, *, table: bool = False
    ) -> tf.Variable | ShardedTable:
        """Like `model_training.parts.variables.VariableFactory`, but for a graph."""
        if not table:
            return _variable(name, partial(initializer, shape))
        by_row = cast(TableInitializer, initializer)
        return ShardedTable(
            [
                _variable(shard_name(name, i), partial(by_row, [end - start, *shape[1:]], start))
                for i, (start, end) in enumerate(bounds(shape[0], self._shards))
            ]
        )


def _variable(name: str, initial: Callable[[], tf.Tensor]) -> tf.Variable:
    # TensorFlow places the operations of a function beside the variable, but those of a tensor in this process.
    return tf.compat.v1.Variable(initial, name=name, dtype=tf.float32, use_resource=True)


def scratch_variable(
    first: tf.Tensor, *, name: str | None = None, shape: Sequence[int | None] | None = None, is_set_here: bool = True
) -> tf.Variable:
    """A graph variable that is not trained and not in checkpoints.

    Args:
        shape: by default the shape of the `first` value.
        is_set_here: whether this process initialises it. Otherwise another process does, or none does because it is
            written before it is read.
    """
    return tf.compat.v1.Variable(
        first,
        name=name,
        trainable=False,
        collections=[tf.compat.v1.GraphKeys.LOCAL_VARIABLES] if is_set_here else [],
        use_resource=True,
        validate_shape=False,
        shape=first.shape if shape is None else shape,
    )


def rules_of(model: Model, config: TrainingConfig, clock: Clock = START) -> dict[str, Rule]:
    """The update rule of each trained variable of a graph, by its name.

    Variables without elements are omitted.
    """
    rules = Rules.of(model, config.wide, config.deep, clock)
    return {v.op.name: rules[v] for v in model.trainable_variables if v.shape.num_elements()}


def gradients_of(loss: tf.Tensor, model: Model) -> list[Gradient]:
    """The gradients of a graph's trained variables; variables without elements are omitted."""
    of_tables = [gradient for table in model.tables for gradient in table.gradients(loss)]
    shards = {id(shard) for _, shard in of_tables}
    dense = [v for v in model.trainable_variables if id(v) not in shards and v.shape.num_elements()]
    return [*zip(tf.gradients(loss, dense), dense, strict=True), *of_tables]


def bytes_by_variable(config: TrainingConfig, spec: FeatureSpec, *, shards: int | None = None) -> dict[str, int]:
    """Bytes of each variable including its optimizer slots, in order of creation.

    This allocates no memory for the variables.

    Args:
        shards: number of shards per table, by default that of the config.

    Raises:
        ConfigError: the spec does not suit the model.
    """
    with tf.Graph().as_default():
        model = build_model(config, spec, create=PartitionedVariables(shards or config.distributed.table_shards))
        rules = rules_of(model, config)
        elements = {v.op.name: v.shape.num_elements() for v in model.trainable_variables}
    return {name: _FLOAT_BYTES * elements[name] * (1 + len(rule.slots)) for name, rule in rules.items()}


class GreedyStrategy:
    """Gives `replica_device_setter` the parameter server of an operation, by its name.

    Invariant: with the same sizes, all processes assign all variables to the same servers. Other variables, such as the
    step counter, go to the server with the fewest bytes.
    """

    def __init__(self, sizes: dict[str, int], servers: int) -> None:
        self._placement: Placement = greedy(sizes, servers)
        held = loads(sizes, self._placement, servers)
        self._lightest = held.index(min(held))

    def __call__(self, operation: tf.Operation) -> int:
        """The index of the server."""
        return self._placement.get(operation.name, self._lightest)


def restore(model: Model, checkpoint: str) -> None:
    """Restores an eager `model` from a checkpoint whose tables may be in shards.

    Raises:
        DataError: the checkpoint is of another model or cannot be read.
    """
    reader, shapes = _opened(checkpoint)
    for variable in model.trainable_variables:
        if variable.shape.is_fully_defined():  # a stored table has no rows here
            name = name_of(variable)
            try:
                parts = [reader.get_tensor(part) for part in _parts_of(name, shapes, checkpoint)]
            except _UNREADABLE as error:
                raise DataError(f"{checkpoint}: is damaged: {in_a_line(error)}") from error
            variable.assign(merge(name, parts, tuple(variable.shape)))


def restored_without_tables(config: TrainingConfig, spec: FeatureSpec, checkpoint: str) -> tuple[Model, StoredTables]:
    """A checkpoint's model, with tables of no rows, and the places of their rows.

    Raises:
        DataError: the checkpoint is of another model or cannot be read.
    """
    shapes, stored = _opened(checkpoint)[1], dict[str, StoredTable]()

    def create(name: str, shape: Sequence[int], initializer: Initializer, *, table: bool = False) -> tf.Variable:
        if not table:
            return create_variable(name, shape, initializer)
        parts = _parts_of(name, shapes, checkpoint)
        check_shape(name, [shapes[part] for part in parts], shape)
        stored[name] = StoredTable(checkpoint, tuple(parts), tuple(shape))
        return tf.Variable(tf.zeros([0, *shape[1:]]), shape=[None, *shape[1:]], name=name)

    model = build_model(config, spec, create=create)
    restore(model, checkpoint)
    return model, stored


def _opened(checkpoint: str) -> tuple[Any, Mapping[str, Sequence[int]]]:
    """A reader of a checkpoint, and the shapes of its variables."""
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        return reader, reader.get_variable_to_shape_map()
    except _UNREADABLE as error:
        raise DataError(f"{checkpoint}: cannot be read: {in_a_line(error)}") from error


def _parts_of(name: str, shapes: Mapping[str, Sequence[int]], checkpoint: str) -> list[str]:
    """The names of a variable's parts in a checkpoint, in order."""
    if name in shapes:
        return [name]
    parts = list(takewhile(shapes.__contains__, (shard_name(name, i) for i in count())))
    if not parts:
        raise DataError(f"{checkpoint}: has no variable {name!r}: it is of another model")
    return parts
