"""Which columns of a request's and a candidate's row feed which part of a model, worked out once from a layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from streamer.features import Group, Layout

Pooling = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True)
class Field:
    """`width` adjacent id columns of one embedded feature, pooled into one vector if there may be several values."""

    start: int
    width: int
    pooling: Pooling | None


@dataclass(frozen=True, slots=True)
class EndColumns:
    """The columns of one end of a request, which are encoded and travel together.

    Attributes:
        id_width, float_width: widths of the end's matrices.
        embedded: the deep features that have an embedding.
        wide_ids, wide_floats, deep_floats: column indices.
    """

    id_width: int
    float_width: int
    embedded: tuple[Field, ...]
    wide_ids: tuple[int, ...]
    wide_floats: tuple[int, ...]
    deep_floats: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        """Whether no column travels on this end."""
        return self.id_width + self.float_width == 0

    def deep_width(self, dim: int) -> int:
        """Inputs of the first dense layer from this end, with embeddings of `dim` dimensions."""
        return len(self.embedded) * dim + len(self.deep_floats)


def request_end(layout: Layout) -> EndColumns:
    """Columns of user and context: one row a request."""
    return _end(layout, ("request",))


def candidate_end(layout: Layout) -> EndColumns:
    """Columns that differ between candidates: the candidate's own, then the crosses of both ends."""
    return _end(layout, ("candidate", "pair"))


def _end(layout: Layout, groups: Sequence[Group]) -> EndColumns:
    embedded: list[Field] = []
    wide_ids: list[int] = []
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
        for column in layout.floats[group]:
            if column.feature.wide:
                wide_floats.append(floats + column.start)
            if column.feature.deep:
                deep_floats.append(floats + column.start)
        ids += layout.id_width(group)
        floats += layout.float_width(group)
    return EndColumns(ids, floats, tuple(embedded), tuple(wide_ids), tuple(wide_floats), tuple(deep_floats))
