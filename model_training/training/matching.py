"""Which weights of one model another model of the same or a changed feature spec can keep; pure.

A feature keeps its weights if its ids or its number mean the same in both specs: same name and kind, same buckets,
vocabulary or boundaries. Its other settings may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_training.columns import candidate_columns, request_columns
from model_training.layers.fused_embedding import FieldPlan
from streamer.features import Cross, FeatureSpec, Group, Layout, Numeric

Places = npt.NDArray[np.intp]
Label = tuple[object, ...]

_FREE = {"wide", "deep", "path", "default", "max_values", "pooling"}
"""Settings of a hashed feature that do not change what its ids mean."""
_OF_NUMBER = {"name", "kind", "side", "log"}
"""Settings of a number that its weights depend on; its statistics may be fitted again."""
_ROWS = "rows"
_AXES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "wide/weights": ((_ROWS,),),
    "wide/request_floats": (("request.wide", "request.numbers"),),
    "wide/candidate_floats": (("candidate.wide", "candidate.numbers"),),
    "deep/embedding_table": ((_ROWS,), ()),
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
_OF_INPUTS = ("cross/", "cin/", "deep/embedding_table", "fields/")
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
    _old: Mapping[str, Sequence[Label]]
    _new: Mapping[str, Sequence[Label]]
    _rows: tuple[Places, Places]

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
            _labels(layouts[0]),
            _labels(layouts[1]),
            _rows(*layouts, kept),
        )

    def places(self, name: str, old: Sequence[int], new: Sequence[int]) -> tuple[list[Places], list[Places]] | None:
        """The places of the weights that a variable keeps: per axis those in the old and in the new variable.

        Args:
            name: name of the variable, also for its slots, which have the same shape.
            old, new: shapes of the variable in both models.

        Returns:
            None if the variable keeps nothing.
        """
        axes = _AXES.get(name)
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
        return all(self._old[f"{part}.inputs"] == self._new[f"{part}.inputs"] for part in ("request", "candidate"))

    def _axis(self, kinds: Sequence[str], old: int, new: int) -> tuple[Places, Places] | None:
        if not kinds:
            return (np.arange(old), np.arange(old)) if old == new else None
        if kinds == (_ROWS,):
            exists = (self._rows[0] < old) & (self._rows[1] < new)
            return self._rows[0][exists], self._rows[1][exists]
        for kind in kinds:
            before, after = self._old[kind], self._new[kind]
            if (len(before), len(after)) == (old, new):
                at = {label: i for i, label in enumerate(before)}
                pairs = [(at[label], i) for i, label in enumerate(after) if label in at]
                places = np.array(pairs, dtype=np.intp).reshape(-1, 2)
                return places[:, 0], places[:, 1]
        return None


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
    return repr(content)


def _labels(layout: Layout) -> dict[str, Sequence[Label]]:
    """What each place of an axis belongs to."""
    found: dict[str, Sequence[Label]] = {}
    parts: tuple[tuple[str, Any, tuple[Group, ...]], ...] = (
        ("request", request_columns(layout), ("request",)),
        ("candidate", candidate_columns(layout), ("candidate", "pair")),
    )
    for part, columns, groups in parts:
        of_ids: dict[int, Label] = {}
        numbers: list[Label] = []
        ids = 0
        for group in groups:
            of_ids |= {ids + c.start: (_meaning(layout.spec, c.feature),) for c in layout.ids[group]}
            numbers += [(_meaning(layout.spec, c.feature),) for c in layout.floats[group]]
            numbers += [(_meaning(layout.spec, c.feature), "missing") for c in layout.indicators[group]]
            ids += layout.id_width(group)
        starts = {field.start for field in columns.embedded}
        fields = [of_ids[column] for column in FieldPlan.of(columns.embedded).columns if column in starts]
        deep = [numbers[i] for i in columns.deep_floats]
        found[f"{part}.inputs"] = [(*f, i) for f in fields for i in range(layout.spec.embedding_dim)] + deep
        found[f"{part}.deep"] = deep
        found[f"{part}.wide"] = [numbers[i] for i in columns.wide.floats]
        found[f"{part}.numbers"] = numbers
    return found


def _rows(old: Layout, new: Layout, kept: Sequence[str]) -> tuple[Places, Places]:
    """The rows of the fused table that the kept features have in both layouts."""
    before, after = (
        {c.feature.name: np.arange(c.offset, c.offset + c.rows) for ids in layout.ids.values() for c in ids}
        for layout in (old, new)
    )
    both = [name for name in kept if name in before and name in after and len(before[name]) == len(after[name])]
    nothing = [np.empty(0, np.intp)]
    return np.concatenate([before[n] for n in both] or nothing), np.concatenate([after[n] for n in both] or nothing)
