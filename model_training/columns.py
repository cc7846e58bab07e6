"""Which columns of a request's and a candidate's row feed which part of a model, worked out once from a layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from model_training.errors import ConfigError
from streamer.features import Cross, Group, Layout

Pooling = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True)
class Field:
    """`width` adjacent id columns of one embedded feature, pooled into one vector if there may be several values."""

    start: int
    width: int
    pooling: Pooling | None


@dataclass(frozen=True, slots=True)
class LinearColumns:
    """Column indices of what a linear model reads: in the matrix of ids and in that of floats."""

    ids: tuple[int, ...]
    floats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EndColumns:
    """The columns of one end of a request, which are encoded and travel together.

    Attributes:
        id_width, float_width: widths of the end's matrices.
        embedded: the deep features that have an embedding.
        deep_floats: column indices of the deep numbers.
        wide: the wide features, crosses among them.
        single: all features but crosses, wide or deep.
    """

    id_width: int
    float_width: int
    embedded: tuple[Field, ...]
    deep_floats: tuple[int, ...]
    wide: LinearColumns
    single: LinearColumns

    @property
    def is_empty(self) -> bool:
        """Whether no column travels on this end."""
        return self.id_width + self.float_width == 0

    def deep_width(self, dim: int) -> int:
        """Inputs of the first dense layer from this end, with embeddings of `dim` dimensions."""
        return len(self.embedded) * dim + len(self.deep_floats)


Ends = tuple[EndColumns, EndColumns]
"""The request's, then the candidate's."""


def both_ends(layout: Layout) -> Ends:
    """The columns of both ends.

    Raises:
        ConfigError: one of them has none.
    """
    ends = request_end(layout), candidate_end(layout)
    if any(end.is_empty for end in ends):
        raise ConfigError(f"spec {layout.spec.name!r}: needs features of user or context, and of candidates")
    return ends


def request_end(layout: Layout) -> EndColumns:
    """Columns of user and context: one row a request."""
    return _end(layout, ("request",))


def candidate_end(layout: Layout) -> EndColumns:
    """Columns that differ between candidates: the candidate's own, then the crosses of both ends."""
    return _end(layout, ("candidate", "pair"))


def _end(layout: Layout, groups: Sequence[Group]) -> EndColumns:
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
                embedded.append(Field(start, columns.width, pooling))
            if columns.feature.wide:
                wide_ids += range(start, start + columns.width)
            if not isinstance(columns.feature, Cross):
                single_ids += range(start, start + columns.width)
        for column in layout.floats[group]:
            if column.feature.wide:
                wide_floats.append(floats + column.start)
            if column.feature.deep:
                deep_floats.append(floats + column.start)
        ids += layout.id_width(group)
        floats += layout.float_width(group)
    return EndColumns(
        ids,
        floats,
        tuple(embedded),
        tuple(deep_floats),
        wide=LinearColumns(tuple(wide_ids), tuple(wide_floats)),
        single=LinearColumns(tuple(single_ids), tuple(range(floats))),
    )
