"""The encoded form of a spec: the matrix columns and the table rows of each feature."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from streamer.features.kinds import Cross, Feature, MultiValued, Numeric
from streamer.features.spec import FeatureSpec, Group
from streamer.types import TensorInfo

GROUPS: tuple[Group, ...] = ("request", "candidate", "pair")


@dataclass(frozen=True, slots=True)
class IdColumns:
    """The `width` adjacent id columns of one feature, from column `start` of its group's matrix.

    Ids are in [offset, offset + rows); padding of multi-valued features is 0.
    """

    feature: Feature
    group: Group
    start: int
    width: int
    offset: int
    rows: int

    @property
    def pooling(self) -> str | None:
        """How a row's values are pooled: "mean" or "sum"; None if a row holds exactly one value."""
        if isinstance(self.feature, MultiValued):
            return self.feature.pooling
        return "sum" if self.width > 1 else None


@dataclass(frozen=True, slots=True)
class FloatColumn:
    """One float column of a group's matrix."""

    feature: Numeric
    group: Group
    start: int


class Layout:
    """The encoded form that follows from a spec.

    Row 0 of the fused table is padding. The rows of deep features come first, in [1, embedded_rows), so that the
    embedding table needs no rows for features that are only wide. `table_rows` counts all rows.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        used = [f for f in spec.features if f.wide or f.deep]
        in_table = sorted((f for f in used if not isinstance(f, Numeric)), key=lambda f: not f.deep)
        *starts, self.table_rows = accumulate((f.rows for f in in_table), initial=1)
        offsets = dict(zip((f.name for f in in_table), starts, strict=True))
        self.embedded_rows = 1 + sum(f.rows for f in in_table if f.deep)
        self.ids: dict[Group, tuple[IdColumns, ...]] = {}
        self.floats: dict[Group, tuple[FloatColumn, ...]] = {}
        for group in GROUPS:
            ids: list[IdColumns] = []
            floats: list[FloatColumn] = []
            start = 0
            for feature in used:
                if spec.group(feature) != group:
                    continue
                if isinstance(feature, Numeric):
                    floats.append(FloatColumn(feature, group, len(floats)))
                else:
                    width = spec.width(feature)
                    ids.append(IdColumns(feature, group, start, width, offsets[feature.name], feature.rows))
                    start += width
            self.ids[group] = tuple(ids)
            self.floats[group] = tuple(floats)

    def id_width(self, group: Group) -> int:
        """Columns of the group's int32 matrix."""
        return sum(c.width for c in self.ids[group])

    def float_width(self, group: Group) -> int:
        """Columns of the group's float32 matrix; the pair group has none."""
        return len(self.floats[group])

    def score_inputs(self) -> dict[str, TensorInfo]:
        """The inputs of the `score` signature by name; a matrix without columns is absent."""
        ids = {f"{group}_ids": ("int32", self.id_width(group)) for group in GROUPS}
        floats = {f"{group}_floats": ("float32", self.float_width(group)) for group in GROUPS}
        matrices = {name: TensorInfo(dtype, (-1, width)) for name, (dtype, width) in (ids | floats).items() if width}
        return {**matrices, "row_to_request": TensorInfo("int32", (-1,))}

    @cached_property
    def row_ids(self) -> int:
        """Ids of one flat row: request, candidate and pair columns side by side."""
        return sum(self.id_width(group) for group in GROUPS)

    @cached_property
    def row_floats(self) -> int:
        """Floats of one flat row: request and candidate columns side by side."""
        return sum(self.float_width(group) for group in GROUPS)

    def crosses(self, group: Group) -> tuple[tuple[IdColumns, Cross], ...]:
        """The group's crosses with their columns."""
        return tuple((c, c.feature) for c in self.ids[group] if isinstance(c.feature, Cross))
