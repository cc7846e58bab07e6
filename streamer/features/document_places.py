"""Where the values of features lie in a document: objects, each searched for once."""

from collections.abc import Mapping
from typing import NamedTuple

from streamer.features.paths import Getter, getter, parse_path
from streamer.features.side_plan import SidePlan
from streamer.features.transforms import feature_getter


class Container(NamedTuple):
    """An object with values of features by key.

    It lies at `keys` in the document, or in what `of` returns for the document.
    """

    is_user: bool
    keys: tuple[str, ...]
    of: Getter | None

    def getter(self) -> Getter:
        """A function that returns the object in a document."""
        if self.of is not None:
            return self.of
        return getter(".".join(self.keys)) if self.keys else _itself


def places_of(plan: SidePlan) -> tuple[list[Container], list[tuple[int, str]]]:
    """The containers; for each feature of the plan, the number of its container and its key."""
    found = dict[Container, int]()
    by_path: dict[bool, dict[str, Getter]] = {True: {}, False: {}}
    others = {is_user: Container(is_user, (), _values_at(getters)) for is_user, getters in by_path.items()}
    places: list[tuple[int, str]] = []
    for feature in plan.features:
        steps, is_user = parse_path(feature.path), feature.side == "user"
        if feature.by is None and "*" not in steps and all(isinstance(step, str) for step in steps):
            *above, key = map(str, steps)
            container = Container(is_user, tuple(above), None)
        else:
            key = feature.path if feature.by is None else f"{feature.by} {feature.path}"
            by_path[is_user][key] = feature_getter(feature)
            container = others[is_user]
        places.append((found.setdefault(container, len(found)), key))
    return list(found), places


def _values_at(getters: Mapping[str, Getter]) -> Getter:
    return lambda document: {path: get(document) for path, get in getters.items()}


def _itself(document: object) -> object:
    return document
