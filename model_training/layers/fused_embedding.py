"""Embeddings of all features from one table, multi-valued ones pooled.

    v_f = T[i_f]                                        one value
    v_f = Σ_j [i_fj ≠ 0] T[i_fj]                        sum of up to w values, id 0 being padding
    v_f = Σ_j [i_fj ≠ 0] T[i_fj] / max(1, Σ_j [i_fj ≠ 0])    mean

T [rows, dim] is the fused table; its row 0 is zero and stays zero, which makes the indicator in the sums free.
Covington, Adams, Sargin: Deep Neural Networks for YouTube Recommendations (2016), section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import tensorflow as tf

from model_training.columns import Field, Pooling
from model_training.layers.select import select


@dataclass(frozen=True, slots=True)
class _Block:
    """Fields of equal width and pooling, adjacent among the gathered columns from `start` on."""

    start: int
    fields: int
    width: int
    pooling: Pooling | None

    @property
    def columns(self) -> int:
        return self.fields * self.width


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """The order in which fields are gathered: those of one value first, then by width, so that a few reshapes pool all.

    The output's fields stand in this order, not in the spec's.
    """

    columns: tuple[int, ...]
    blocks: tuple[_Block, ...]

    @classmethod
    def of(cls, fields: Sequence[Field]) -> "FieldPlan":
        """The plan for `fields` of one matrix."""
        columns: list[int] = []
        blocks: list[_Block] = []
        for (width, _), group in groupby(sorted(fields, key=_shape), key=_shape):
            same = list(group)
            blocks.append(_Block(len(columns), len(same), width, same[0].pooling))
            for field in same:
                columns += range(field.start, field.start + width)
        return cls(tuple(columns), tuple(blocks))


def _shape(field: Field) -> tuple[int, str]:
    return field.width, field.pooling or ""


def fused_embedding(table: tf.Tensor, ids: tf.Tensor, plan: FieldPlan, dim: int) -> tf.Tensor:
    """Embeds and pools the fields of `ids`, with one gather for all of them.

    Args:
        table: float32 [rows, dim]; a variable, or its shards in order ("div" partitioning).
        ids: int32 [n, width].

    Returns:
        float32 [n, fields × dim].
    """
    if not plan.blocks:
        return tf.zeros([tf.shape(ids)[0], 0])
    picked = select(ids, plan.columns)
    rows = tf.nn.embedding_lookup(table, picked)
    parts: list[tf.Tensor] = []
    for block in plan.blocks:
        end = block.start + block.columns
        whole = len(plan.blocks) == 1
        values = rows if whole else rows[:, block.start : end]
        if block.pooling is not None:
            shape = [-1, block.fields, block.width]
            values = tf.reduce_sum(tf.reshape(values, [*shape, dim]), axis=2)
            if block.pooling == "mean":
                present = tf.reshape(picked[:, block.start : end] != 0, shape)
                counts = tf.reduce_sum(tf.cast(present, tf.float32), axis=2, keepdims=True)
                values = values / tf.maximum(counts, 1.0)
        parts.append(tf.reshape(values, [-1, block.fields * dim]))
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)
