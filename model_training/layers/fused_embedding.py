"""Embeddings of all features from one table; several values of a feature are pooled.

    v_f = T[i_f]                                             one value
    v_f = Σ_j [i_fj ≠ 0] T[i_fj]                             sum of up to w values; id 0 is padding
    v_f = Σ_j [i_fj ≠ 0] T[i_fj] / max(1, Σ_j [i_fj ≠ 0])    mean

T [rows, dim] is the fused table. Its row 0 is zero and stays zero, so the indicator in the sums costs nothing.
Covington, Adams, Sargin: Deep Neural Networks for YouTube Recommendations (2016), section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import tensorflow as tf

from model_training.columns import Field, Pooling
from model_training.layers.select import select
from model_training.layers.table import Table, rows_of


@dataclass(frozen=True, slots=True)
class _Block:
    """Fields of equal width and pooling, which are adjacent in the gathered columns."""

    fields: int
    width: int
    pooling: Pooling | None


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """The order in which fields are gathered: fields of one value first, then by width.

    A few reshapes then pool all fields. The output has its fields in this order and not in that of the spec.

    Attributes:
        before: id `before` + i is row i of the table, and a lower id is padding.
    """

    columns: tuple[int, ...]
    blocks: tuple[_Block, ...]
    before: int = 0

    @classmethod
    def of(cls, fields: Sequence[Field], before: int = 0) -> "FieldPlan":
        """The plan for the `fields` of one matrix, whose embeddings are in one table."""
        columns: list[int] = []
        blocks: list[_Block] = []
        for (width, _), group in groupby(sorted(fields, key=_shape), key=_shape):
            same = list(group)
            blocks.append(_Block(len(same), width, same[0].pooling))
            for field in same:
                columns += range(field.start, field.start + width)
        return cls(tuple(columns), tuple(blocks), before)


def _shape(field: Field) -> tuple[int, str]:
    return field.width, field.pooling or ""


def fused_embedding(table: tf.Variable | Table, ids: tf.Tensor, plan: FieldPlan, dim: int) -> tf.Tensor:
    """Embeds and pools the fields of `ids` with a single gather.

    Args:
        table: float32 [rows, dim].
        ids: int32 [n, width].

    Returns:
        float32 [n, fields × dim].
    """
    if not plan.blocks:
        return tf.zeros([tf.shape(ids)[0], 0])
    picked = select(ids, plan.columns)
    if plan.before:
        picked = tf.maximum(picked - plan.before, 0)
    # Splits and not slices: the gradient of a slice is a copy of the whole matrix, filled with zeros.
    sizes = [block.fields * block.width for block in plan.blocks]
    rows = tf.split(rows_of(table, picked), sizes, axis=1)
    parts: list[tf.Tensor] = []
    for block, values, block_ids in zip(plan.blocks, rows, tf.split(picked, sizes, axis=1), strict=True):
        pooled = values
        if block.pooling is not None:
            shape = [-1, block.fields, block.width]
            pooled = tf.reduce_sum(tf.reshape(values, [*shape, dim]), axis=2)
            if block.pooling == "mean":
                # Not `!=`: in graph mode it would compare Python objects.
                present = tf.cast(tf.reshape(tf.not_equal(block_ids, 0), shape), tf.float32)
                pooled /= tf.maximum(tf.reduce_sum(present, axis=2, keepdims=True), 1.0)
        parts.append(tf.reshape(pooled, [-1, block.fields * dim]))
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)
