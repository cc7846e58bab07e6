"""The encoded form of a spec: the matrix columns and the table rows of each feature."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby

from streamer.features.kinds import Cross, Feature, HashedFeature, MultiValued, Numeric
from streamer.features.raw_kinds import RawFeature, Text
from streamer.features.spec import FeatureSpec, Group
from streamer.types import TensorInfo

GROUPS: tuple[Group, ...] = ("request", "candidate", "pair")


@dataclass(frozen=True, slots=True)
class IdColumns:
    """The `width` adjacent id columns of one feature, from column `start` of its group's matrix.

    Ids are in [offset, offset + rows); padding of multi-valued features is 0. The rows are those of the `owner`, which
    is another feature if the feature shares rows. `dim`: dimensions of an embedding.
    """

    feature: Feature
    group: Group
    start: int
    width: int
    offset: int
    rows: int
    owner: HashedFeature | Cross
    dim: int

    @property
    def pooling(self) -> str | None:
        """How a row's values are pooled: "mean" or "sum"; None if a row holds exactly one value."""
        if isinstance(self.feature, MultiValued):
            return self.feature.pooling
        return "sum" if self.width > 1 else None


@dataclass(frozen=True, slots=True)
class FloatColumn:
    """One float column of a group's matrix: the number, or whether it is missing."""

    feature: Numeric
    group: Group
    start: int


@dataclass(frozen=True, slots=True)
class RawColumns:
    """The `width` adjacent columns of a raw feature, from column `start`.

    They are columns of the texts if it is a text, else of the numbers.
    """

    feature: RawFeature
    group: Group
    start: int
    width: int


@dataclass(frozen=True, slots=True)
class ExamplePart:
    """The column `start` of the texts that holds a side's entries of the Example for an input.

    `entries`: the name in the Example and its feature.
    """

    input: str
    group: Group
    start: int
    entries: tuple[tuple[str, Numeric | RawFeature], ...]


@dataclass(frozen=True, slots=True)
class EmbeddedRows:
    """The rows [start, end) of the fused table whose embeddings have `dim` dimensions."""

    dim: int
    start: int
    end: int


class Layout:
    """The encoded form that follows from a spec.

    Row 0 of the fused table is padding. The rows of deep features come first, in [1, embedded_rows), so that the
    embedding table needs no rows for features that are only wide. Among them, rows of equal dimension are adjacent, as
    `embedded` lists them. `table_rows` counts all rows. The columns `indicators` follow the columns `floats`.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        used = [f for f in spec.features if not isinstance(f, RawFeature) and (f.wide or f.deep)]
        hashed = [f for f in used if not isinstance(f, Numeric)]
        in_table = sorted((f for f in hashed if spec.owner(f) is f), key=lambda f: (not f.deep, spec.dim(f)))
        *starts, self.table_rows = accumulate((f.rows for f in in_table), initial=1)
        offsets = dict(zip((f.name for f in in_table), starts, strict=True))
        self.embedded_rows = 1 + sum(f.rows for f in in_table if f.deep)
        self.embedded = tuple(_embedded(spec, [f for f in in_table if f.deep]))
        self.ids: dict[Group, tuple[IdColumns, ...]] = {}
        self.floats: dict[Group, tuple[FloatColumn, ...]] = {}
        self.indicators: dict[Group, tuple[FloatColumn, ...]] = {}
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
                    width, owner = spec.width(feature), spec.owner(feature)
                    at, dim = offsets[owner.name], spec.dim(feature)
                    ids.append(IdColumns(feature, group, start, width, at, owner.rows, owner, dim))
                    start += width
            self.ids[group] = tuple(ids)
            self.floats[group] = tuple(floats)
            marked = [c.feature for c in floats if c.feature.missing_indicator]
            self.indicators[group] = tuple(FloatColumn(f, group, len(floats) + i) for i, f in enumerate(marked))
        self._plan_raw()

    def _plan_raw(self) -> None:
        """Places the columns of raw features: integers after the floats, Examples after the texts."""
        serving = self.spec.serving
        in_columns = {name for names in serving.columns.values() for name in names} if serving else set()
        by_name = {f.name: f for f in self.spec.features if isinstance(f, Numeric | RawFeature)}
        self.raw: dict[Group, tuple[RawColumns, ...]] = {}
        self.examples: dict[Group, tuple[ExamplePart, ...]] = {}
        self._number_width: dict[Group, int] = {}
        self._text_width: dict[Group, int] = {}
        for group in GROUPS:
            ends = {False: len(self.floats[group]), True: 0}  # by whether the values are texts
            raw: list[RawColumns] = []
            for feature in by_name.values():
                if isinstance(feature, Numeric) or feature.name not in in_columns or self.spec.group(feature) != group:
                    continue
                is_text = isinstance(feature, Text)
                raw.append(RawColumns(feature, group, ends[is_text], feature.width))
                ends[is_text] += feature.width
            self.raw[group] = tuple(raw)
            parts: list[ExamplePart] = []
            for name, entries in sorted(serving.examples.items()) if serving is not None and group != "pair" else ():
                own = [(key, by_name[f]) for key, f in entries.items() if self.spec.group(by_name[f]) == group]
                parts.append(ExamplePart(name, group, ends[True] + len(parts), tuple(own)))
            self.examples[group] = tuple(parts)
            self._number_width[group] = ends[False]
            self._text_width[group] = ends[True] + len(parts)

    def id_width(self, group: Group) -> int:
        """Columns of the group's int32 matrix."""
        return sum(c.width for c in self.ids[group])

    def float_width(self, group: Group) -> int:
        """Columns of the group's float32 matrix; the pair group has none."""
        return len(self.floats[group]) + len(self.indicators[group])

    def number_width(self, group: Group) -> int:
        """Numbers of a row as a foreign model gets them: floats, then raw integers."""
        return self._number_width[group]

    def text_width(self, group: Group) -> int:
        """Texts of a row: those of text features, then the side's part of each Example."""
        return self._text_width[group]

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


def _embedded(spec: FeatureSpec, features: Sequence[HashedFeature | Cross]) -> Iterator[EmbeddedRows]:
    """The rows of `features`, which are in order of dimension.

    Without features there are no rows, of the spec's dimension.
    """
    if not features:
        yield EmbeddedRows(spec.embedding_dim, 1, 1)
    start = 1
    for dim, group in groupby(features, key=spec.dim):
        end = start + sum(f.rows for f in group)
        yield EmbeddedRows(dim, start, end)
        start = end
