"""Consent: the rules by which a request denies the use of its user's data."""

from collections.abc import Callable, Sequence
from typing import Self

from pydantic import Field, model_validator

from streamer.errors import SpecError
from streamer.features.hashing import canonical
from streamer.features.kinds import SpecValue
from streamer.features.paths import getter, parse_path


class DenialRule(SpecValue):
    """Denies consent if the document has one of `values` at `path`.

    It does not deny if the document has any value at `unless`. Values are compared as the encoder compares them: 1, 1.0
    and "1" are equal. With `[*]` in the path one element is enough. A value that is neither a scalar nor missing
    denies, and so does one on the way to `path` that is no object, because the sender may have meant a denial.
    """

    path: str
    values: tuple[str | bool | int | float, ...] = Field(min_length=1)
    unless: str | None = None

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for path in self.paths:
            try:
                parse_path(path)
            except SpecError as error:
                raise ValueError(str(error)) from None
        if any(canonical(value) is None for value in self.values):
            raise ValueError(f"{self.path}: the empty string counts as missing, so it cannot deny")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that the rule reads."""
        return (self.path,) if self.unless is None else (self.path, self.unless)


class Consent(SpecValue):
    """The rules of a spec; any of them denies."""

    denied_by: tuple[DenialRule, ...] = Field(min_length=1)


def hidden(column: Sequence[object], denied: Sequence[bool]) -> list[object]:
    """A column of values without those of the rows in which `denied` is set."""
    return [None if no else value for no, value in zip(denied, column, strict=True)]


class ConsentCheck:
    """Tells whether a document denies the use of its user's data. It never raises."""

    def __init__(self, rules: Sequence[DenialRule]) -> None:
        self._rules = [(rule.path, frozenset(map(canonical, rule.values)), rule.unless) for rule in rules]
        self._getters = {path: getter(path) for rule in rules for path in rule.paths}
        self._ways = [parse_path(rule.path) for rule in rules]

    def denies(self, document: object) -> bool:
        """Whether any rule denies."""
        leads_nowhere = any(_leads_nowhere(document, way) for way in self._ways)
        return leads_nowhere or self.denies_values(lambda path: self._getters[path](document))

    def denies_values(self, value_at: Callable[[str], object]) -> bool:
        """Whether any rule denies, for the values that `value_at` has for the rules' paths."""
        for path, values, unless in self._rules:
            found = value_at(path)
            if found is None or (unless is not None and canonical(value_at(unless)) is not None):
                continue
            for value in found if isinstance(found, list) else (found,):
                if isinstance(value, list | dict) or canonical(value) in values:
                    return True
        return False


def _leads_nowhere(document: object, steps: Sequence[str | int]) -> bool:
    """Whether the keys of a path, up to its first index, meet a value that is no object."""
    at: object = document if isinstance(document, dict) else None
    for step in steps:
        if at is None or step == "*" or isinstance(step, int):
            return False
        if not isinstance(at, dict):
            return True
        at = at.get(step)
    return False
