"""Which weights a model can keep from a model of the same or a changed feature spec; pure.

A feature keeps its weights if its ids or its number mean the same in both specs: same name and kind, same buckets,
vocabulary or boundaries. Its other settings may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_training.columns import InputColumns, candidate_columns, request_columns
from model_training.layers.fused_embedding import FieldPlan
from streamer.features import Cross, FeatureSpec, Group, Layout, Numeric
from streamer.features.kinds import HashedFeature
from streamer.features.layout import IdColumns

Places = npt.NDArray[np.intp]
Label = tuple[object, ...]

_FREE = {"wide", "deep", "path", "default", "max_values", "pooling", "embedding_dim", "shares"}
"""Settings of a hashed feature that do not change what its ids mean."""
_OF_NUMBER = {"name", "kind", "side", "log"}
"""Settings of a number that its weights depend on; its statistics may be fitted again."""
_ROWS = "rows"
_AXES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "wide/weights": ((_ROWS,),),
    "wide/request_floats": (("request.wide", "request.numbers"),),
    "wide/candidate_floats": (("candidate.wide", "candidate.numbers"),),
    "deep/request_kernel": (("request.inputs",), ()),
    "deep/candidate_kernel": (("candidate.inputs",), ()),
    "fields/request_numbers": (("request.deep",), ()),
    "fields/candidate_numbers": (("candidate.deep",), ()),
    "cross/request_kernel": (("request.inputs",), ()),
    "cross/candidate_kernel": (("candidate.inputs",), ()),
    "cross/request_biases": ((), ("request.inputs",)),
    "cross/candidate_biases": ((), ("candidate.inputs",)),
}
"""For each axis of a variable, the labels of its places; without labels, the axis must have the same size."""
_TABLE = "deep/embedding_table"
_OF_INPUTS = ("cross/", "cin/", "fields/")
"""Other variables with these prefixes fit only the same inputs."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The features of two specs, and the places of their weights.

    Attributes:
        kept, dropped: names of features that keep their weights, and of those that only the old spec has.
        fresh: by name the reason for which a feature of the new spec keeps nothing.
    """

    kept: tuple[str, ...]
    fresh: Mapping[str, str]
    dropped: tuple[str, ...]
    _is_same: bool
    _old: "_Labelled"
    _new: "_Labelled"

    @classmethod
    def of(cls, old: FeatureSpec, new: FeatureSpec) -> "Matching":
        """Matches the features of two specs."""
        before, after = ({f.name: _meaning(spec, f) for f in spec.features} for spec in (old, new))
        kept = tuple(name for name in after if after[name] == before.get(name))
        fresh = {n: "has other ids" if n in before else "is new" for n in after if n not in kept}
        layouts = Layout(old), Layout(new)
        return cls(
            kept,
            fresh,
            tuple(name for name in before if name not in after),
            old.hash == new.hash,
            *(_Labelled.of(layout, kept) for layout in layouts),
        )

    def old_name(self, name: str) -> str:
        """The old model's name of a variable or slot: the table of a dimension may have another one."""
        for table, dim in self._new.tables.items():
            if name == table or name.startswith(f"{table}/"):
                return next((t for t, d in self._old.tables.items() if d == dim), table) + name.removeprefix(table)
        return name

    def places(self, name: str, old: Sequence[int], new: Sequence[int]) -> tuple[list[Places], list[Places]] | None:
        """The places of the weights that a variable keeps, by axis: in the old and in the new one.

        Args:
            name: name of the variable, also for its slots, which have the same shape.
            old, new: shapes of the variable in both models.

        Returns:
            None if the variable keeps nothing.
        """
        axes = ((name,), ()) if name in self._new.tables else _AXES.get(name)
        if self._is_same or axes is None:
            fits = self._is_same or not name.startswith(_OF_INPUTS) or self._same_inputs
            whole = [np.arange(size) for size in old]
            return (whole, whole) if fits and tuple(old) == tuple(new) else None
        if len(axes) != len(old) or len(axes) != len(new):
            return None
        found = [self._axis(kinds, *sizes) for kinds, *sizes in zip(axes, old, new, strict=True)]
        if any(axis is None for axis in found):
            return None
        return [axis[0] for axis in found if axis], [axis[1] for axis in found if axis]

    @property
    def _same_inputs(self) -> bool:
        return all(self._old.labels[key] == self._new.labels[key] for key in ("request.inputs", "candidate.inputs"))

    def _axis(self, kinds: Sequence[str], old: int, new: int) -> tuple[Places, Places] | None:
        if not kinds:
            return (np.arange(old), np.arange(old)) if old == new else None
        if kinds == (_ROWS,) or kinds[0] in self._new.tables:
            return self._rows(kinds[0], old, new)
        for kind in kinds:
            labels = self._old.labels[kind], self._new.labels[kind]
            if (len(labels[0]), len(labels[1])) == (old, new):
                at = {label: i for i, label in enumerate(labels[0])}
                pairs = [(at[label], i) for i, label in enumerate(labels[1]) if label in at]
                places = np.array(pairs, dtype=np.intp).reshape(-1, 2)
                return places[:, 0], places[:, 1]
        return None

    def fresh_embeddings(self, table: str) -> tuple[str, ...]:
        """The kept features of which the old embedding table has no rows, so that they start fresh."""
        if table not in self._new.tables:
            return ()
        old = self.old_name(table)
        before = self._old.rows(old) if self._old.tables.get(old) == self._new.tables[table] else {}
        return tuple(name for name in self._new.rows(table) if name not in before)

    def _rows(self, table: str, old: int, new: int) -> tuple[Places, Places]:
        """The rows of kept features that both tables have."""
        before, after = self._old.rows(self.old_name(table)), self._new.rows(table)
        both = [name for name in before if name in after and len(before[name]) == len(after[name])]
        nothing = [np.empty(0, np.intp)]
        rows = [np.concatenate([of[name] for name in both] or nothing) for of in (before, after)]
        exists = (rows[0] < old) & (rows[1] < new)
        return rows[0][exists], rows[1][exists]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A layout, and what each place of its axes belongs to.

    Attributes:
        tables: dimension of each embedding table, by name.
    """

    labels: Mapping[str, Sequence[Label]]
    tables: Mapping[str, int]
    _kept: Sequence[IdColumns]
    _starts: Mapping[str, int]

    @classmethod
    def of(cls, layout: Layout, kept: Sequence[str]) -> "_Labelled":
        """The labels of a layout; `kept` names features that keep their rows."""
        names = [_TABLE, *(f"{_TABLE}_{rows.dim}" for rows in layout.embedded[1:])]
        return cls(
            _labels(layout),
            {name: rows.dim for name, rows in zip(names, layout.embedded, strict=True)},
            [columns for ids in layout.ids.values() for columns in ids if columns.feature.name in kept],
            {name: rows.start for name, rows in zip(names, layout.embedded, strict=True)},
        )

    def rows(self, table: str) -> dict[str, Places]:
        """The rows of each kept feature in the fused table, or in an embedding table."""
        before, dim = self._starts.get(table, 1) - 1, self.tables.get(table)
        of_table = [c for c in self._kept if dim is None or (c.feature.deep and c.dim == dim)]
        return {c.feature.name: np.arange(c.offset, c.offset + c.rows) - before for c in of_table}


def _meaning(spec: FeatureSpec, feature: Any) -> str:
    """Equal for two features if their weights mean the same."""
    own: dict[str, Any] = feature.model_dump(mode="json")
    if isinstance(feature, Numeric):
        return repr({key: own[key] for key in sorted(_OF_NUMBER)})
    content = {key: value for key, value in sorted(own.items()) if key not in _FREE}
    if isinstance(feature, Cross):
        # A cross hashes its parents' hashes, so their buckets do not matter.
        parents = [parent.model_dump(mode="json", exclude={*_FREE, "buckets"}) for parent in spec.parents(feature)]
        content["of"] = [sorted(parent.items()) for parent in parents]
    elif isinstance(feature, HashedFeature) and (owner := spec.owner(feature)) is not feature:
        content["shares"] = _meaning(spec, owner)
    return repr(content)


def _labels(layout: Layout) -> dict[str, Sequence[Label]]:
    """What each place of an axis belongs to."""
    found: dict[str, Sequence[Label]] = {}
    parts: tuple[tuple[str, InputColumns, tuple[Group, ...]], ...] = (
        ("request", request_columns(layout), ("request",)),
        ("candidate", candidate_columns(layout), ("candidate", "pair")),
    )
    for part, columns, groups in parts:
        of_ids: dict[int, Label] = {}
        numbers: list[Label] = []
        ids = 0
        for group in groups:
            of_ids |= {ids + c.start: (_meaning(layout.spec, c.feature), c.dim) for c in layout.ids[group]}
            numbers += [(_meaning(layout.spec, c.feature),) for c in layout.floats[group]]
            numbers += [(_meaning(layout.spec, c.feature), "missing") for c in layout.indicators[group]]
            ids += layout.id_width(group)
        inputs: list[Label] = []
        for rows in layout.embedded:
            plan = FieldPlan.of([field for field in columns.embedded if field.dim == rows.dim])
            starts = {field.start for field in columns.embedded}
            inputs += [(*of_ids[c], i) for c in plan.columns if c in starts for i in range(rows.dim)]
        deep = [numbers[i] for i in columns.deep_floats]
        found[f"{part}.inputs"] = inputs + deep
        found[f"{part}.deep"] = deep
        found[f"{part}.wide"] = [numbers[i] for i in columns.wide.floats]
        found[f"{part}.numbers"] = numbers
    return found
