"""Columns of the request matrix and the candidate matrix by the model part that reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from model_training.errors import ConfigError
from streamer.features import Cross, Group, Layout

Pooling = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True)
class Field:
    """`width` adjacent id columns of one embedded feature; its values are pooled.

    Its embedding has `dim` dimensions.
    """

    start: int
    width: int
    pooling: Pooling | None
    dim: int


@dataclass(frozen=True, slots=True)
class LinearColumns:
    """Column indices that a linear model reads, in the id matrix and in the float matrix."""

    ids: tuple[int, ...]
    floats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InputColumns:
    """The columns of one input: of the request, or of the candidate.

    Attributes:
        id_width, float_width: widths of the input's two matrices.
        embedded: the deep features that have an embedding.
        deep_floats: column indices of the deep numbers.
        wide: the wide features, including crosses.
        single: all features except crosses, wide or deep.
    """

    id_width: int
    float_width: int
    embedded: tuple[Field, ...]
    deep_floats: tuple[int, ...]
    wide: LinearColumns
    single: LinearColumns

    @property
    def is_empty(self) -> bool:
        """Whether the input has no column."""
        return self.id_width + self.float_width == 0

    @property
    def deep_width(self) -> int:
        """Width of this input for the first dense layer."""
        return sum(field.dim for field in self.embedded) + len(self.deep_floats)


ColumnPair = tuple[InputColumns, InputColumns]
"""The request's columns, then the candidate's."""


def input_columns(layout: Layout) -> ColumnPair:
    """The columns of the request and of the candidate.

    Raises:
        ConfigError: one of the two inputs has no column.
    """
    columns = request_columns(layout), candidate_columns(layout)
    if any(part.is_empty for part in columns):
        raise ConfigError(f"spec {layout.spec.name!r}: needs features of user or context, and of candidates")
    return columns


def request_columns(layout: Layout) -> InputColumns:
    """Columns of user and context: one row per request."""
    return _input_columns(layout, ("request",))


def candidate_columns(layout: Layout) -> InputColumns:
    """Columns that differ between candidates: their own, then crosses with the request."""
    return _input_columns(layout, ("candidate", "pair"))


def _input_columns(layout: Layout, groups: Sequence[Group]) -> InputColumns:
    embedded: list[Field] = []
    wide_ids: list[int] = []
    single_ids: list[int] = []
    wide_floats: list[int] = []
    deep_floats: list[int] = []
    ids = floats = 0
    for group in groups:
        for columns in layout.ids[group]:
            start = ids + columns.start
            if columns.feature.deep:
                pooling: Pooling | None = None
                if columns.pooling is not None:
                    pooling = "mean" if columns.pooling == "mean" else "sum"
                embedded.append(Field(start, columns.width, pooling, columns.dim))
            if columns.feature.wide:
                wide_ids += range(start, start + columns.width)
            if not isinstance(columns.feature, Cross):
                single_ids += range(start, start + columns.width)
        for column in (*layout.floats[group], *layout.indicators[group]):
            if column.feature.wide:
                wide_floats.append(floats + column.start)
            if column.feature.deep:
                deep_floats.append(floats + column.start)
        ids += layout.id_width(group)
        floats += layout.float_width(group)
    return InputColumns(
        ids,
        floats,
        tuple(embedded),
        tuple(deep_floats),
        wide=LinearColumns(tuple(wide_ids), tuple(wide_floats)),
        single=LinearColumns(tuple(single_ids), tuple(range(floats))),
    )
