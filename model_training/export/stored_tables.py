"""Tables that are exported from a checkpoint, shard by shard: no process holds a whole one."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Key of a checkpoint that describes the other ones; checkpoints of parameter servers have none."""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table of `shape` in a checkpoint; `shards`: names of its parts along the first axis."""

    checkpoint: str
    shards: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The number of its elements."""
        return prod(self.shape)


StoredTables = Mapping[str, StoredTable]
"""Stored tables by the variable's name."""


def name_of(variable: tf.Variable) -> str:
    """The name by which a variable is created."""
    return str(variable.name.split(":")[0])


def keys_by_name(reader: Any) -> dict[str, str]:
    """The keys of a checkpoint that has an object graph, by the names of the variables."""
    graph = TrackableObjectGraph.FromString(reader.get_tensor(OBJECT_GRAPH))
    return {each.full_name: each.checkpoint_key for node in graph.nodes for each in node.attributes if each.full_name}


def write_tables(variables: Path, tables: StoredTables) -> None:
    """Replaces tables among a SavedModel's `variables` by stored ones.

    The largest shard is the most that is in memory. The files have each table as one tensor in slices, which
    TensorFlow's readers merge.

    Raises:
        tf.errors.OpError: a file cannot be read or written.
    """
    path = str(variables / "variables")
    before = tf.io.gfile.glob(f"{path}.data-*")
    reader = tf.train.load_checkpoint(path)
    dtypes = reader.get_variable_to_dtype_map()
    keys = keys_by_name(reader)
    replaced = {keys[name]: table for name, table in tables.items()}
    kept = sorted(set(dtypes) - set(replaced))
    values = tf.raw_ops.RestoreV2(
        prefix=path, tensor_names=kept, shape_and_slices=[""] * len(kept), dtypes=[dtypes[key] for key in kept]
    )
    parts = [f"{path}.part-0"]
    tf.raw_ops.SaveV2(prefix=parts[0], tensor_names=kept, shape_and_slices=[""] * len(kept), tensors=values)
    for key, table in replaced.items():
        shape, first = " ".join(map(str, table.shape)), 0
        for shard in table.shards:
            (rows,) = tf.raw_ops.RestoreV2(
                prefix=table.checkpoint, tensor_names=[shard], shape_and_slices=[""], dtypes=[tf.float32]
            )
            parts.append(f"{path}.part-{len(parts)}")
            where = ":".join([f"{first},{rows.shape[0]}", *["-"] * (len(table.shape) - 1)])
            tf.raw_ops.SaveV2(
                prefix=parts[-1], tensor_names=[key], shape_and_slices=[f"{shape} {where}"], tensors=[rows]
            )
            first += rows.shape[0]
    for file in before:
        tf.io.gfile.remove(file)
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=path, delete_old_dirs=False)
