"""Reads the values of features, changed by transforms that other packages provide."""

from collections.abc import Callable
from functools import cache
from typing import Protocol

from streamer.errors import ConfigError, SpecError
from streamer.extensions import Transform, load
from streamer.features.paths import Getter, column_getter, getter

Change = Callable[[object], object]
"""Changes a value, or a column of them."""
_SCALARS = frozenset((str, int, float, bool, type(None)))


class Read(Protocol):
    """A feature with a path. `by`: a transform and its version, as `NAME/VERSION`, or None."""

    @property
    def path(self) -> str: ...
    @property
    def by(self) -> str | None: ...


@cache
def transform_of(by: str) -> Change:
    """A function that gives a feature's value by the transform `NAME/VERSION`. It never raises.

    A missing value stays missing. A value counts as missing if the transform raises an error or returns something that
    JSON's scalars and lists of them cannot hold: a request is never lost by one value, as without a transform.

    Raises:
        SpecError: the transform is not installed, is broken, or has another version.
    """
    name, _, version = by.rpartition("/")
    try:
        transform: Transform = load("ctr_streamer.transforms", name)
    except ConfigError as error:
        raise SpecError(str(error)) from None
    if str(transform.version) != version:
        raise SpecError(
            f"ctr_streamer.transforms: {name!r} has version {transform.version} here, not {version}: install the"
            f" package with version {version}, or train a model with {name}/{transform.version}"
        )

    def value_by_transform(value: object) -> object:
        if value is None:
            return None
        try:
            found = transform(value)
        except Exception:  # noqa: BLE001  of another package
            return None
        return found if _is_plain(found) else None

    return value_by_transform


def feature_getter(feature: Read) -> Getter:
    """A function that returns the value in a document or a candidate. It never raises.

    Raises:
        SpecError: as `transform_of`.
    """
    return _transformed(feature, getter(feature.path), lambda transform: transform)


def feature_column_getter(feature: Read) -> Getter:
    """A function that returns the feature's column in columns of candidates, as `column_getter`.

    Raises:
        SpecError: as `transform_of`.
    """
    return _transformed(feature, column_getter(feature.path), _of_each)


def _transformed(feature: Read, get: Getter, change_by: Callable[[Change], Change]) -> Getter:
    """`get`, and then the change by the feature's transform, if it has one."""
    if feature.by is None:
        return get
    change = change_by(transform_of(feature.by))
    return lambda document: change(get(document))


def _of_each(transform: Change) -> Change:
    """The transform of all values of a column; what is no column stays."""
    return lambda column: list(map(transform, column)) if isinstance(column, list) else column


def _is_plain(value: object) -> bool:
    return type(value) in _SCALARS or (type(value) is list and _SCALARS.issuperset(map(type, value)))
