"""Paths to values in a JSON document: `user.age`, `imp[0].banner.w`, `user.data[*].id`.

A value where a path expects a list counts as a list of this one value: some producers omit the brackets then.
"""

import re
from collections.abc import Callable

from streamer.errors import SpecError

_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]{1,4}|\*)\]")
MAX_STEPS = 100
"""Steps of a path. A JSON parser's limit is near; a request nests less."""

Getter = Callable[[object], object]


def parse_path(path: str) -> tuple[str, *tuple[str | int, ...]]:
    """The steps of `path`: keys as strings, indices as integers, `[*]` as `"*"` (every element).

    Raises:
        SpecError: the path is empty, does not have the form of the module's examples, has an index above 9,999 or more
            than 100 steps.
    """
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        if steps and path[at] == ".":
            at += 1
        match = _STEP.match(path, at)
        if match is None:
            form = "write keys and indices as a.b[0].c; the highest index is 9999"
            raise SpecError(f"path {path!r:.200}: cannot be read at character {at + 1}; {form}")
        key, index = match.groups()
        if key is not None:
            steps.append(key)
        else:
            steps.append("*" if index == "*" else int(index))
        at = match.end()
    first, *rest = steps or [0]
    if not isinstance(first, str) or first == "*":
        raise SpecError(f"path {path!r:.200}: must start with a key")
    if len(steps) > MAX_STEPS:
        raise SpecError(f"path {path!r:.200}: {len(steps)} steps, at most {MAX_STEPS}")
    return (first, *rest)


def getter(path: str) -> Getter:
    """A function that returns a document's value at `path`, otherwise None. It never raises."""
    steps = parse_path(path)
    if len(steps) == 1:
        key = steps[0]
        return lambda doc: doc.get(key) if isinstance(doc, dict) else None
    if len(steps) == 2 and isinstance(steps[1], str) and steps[1] != "*":
        return _key_in_key(*steps)
    return lambda doc: _fetch(doc, steps, 0)


def column_getter(path: str) -> Getter:
    """A function that returns the column at `path` from columns of candidates. It never raises.

    The first keys lead to the column: a list with one value per candidate. The steps after it apply to each value, so
    rows and columns of the same values give the same result. The function returns None if there is no such column, and
    a value that is not a list unchanged.
    """
    steps = parse_path(path)

    def get(columns: object) -> object:
        at = 0
        while at < len(steps) and isinstance(columns, dict):
            columns = columns.get(steps[at])
            at += 1
        if at == len(steps) or not isinstance(columns, list):
            return columns
        return [_fetch(value, steps, at) for value in columns]

    return get


def nested(path: str, value: object) -> object:
    """The smallest document that has `value` at `path`."""
    for step in reversed(parse_path(path)):
        if isinstance(step, int):
            value = [None] * step + [value]
        elif step == "*":
            value = [value]
        else:
            value = {step: value}
    return value


def _key_in_key(outer: str | int, inner: str | int) -> Getter:
    """The most frequent form of path, without a loop: a request has about fifty of them."""

    def get(doc: object) -> object:
        found = doc.get(outer) if isinstance(doc, dict) else None
        return found.get(inner) if isinstance(found, dict) else None

    return get


def _fetch(doc: object, steps: tuple[str | int, ...], at: int) -> object:
    while at < len(steps):
        step = steps[at]
        at += 1
        if step == "*":
            if doc is None:
                return None
            found: list[object] = []
            for item in doc if isinstance(doc, list) else (doc,):
                value = _fetch(item, steps, at)
                if isinstance(value, list):
                    found.extend(value)
                elif value is not None:
                    found.append(value)
            return found
        if isinstance(step, int):
            some = doc if isinstance(doc, list) else (doc,)
            if step >= len(some):
                return None
            doc = some[step]
        elif isinstance(doc, dict):
            doc = doc.get(step)
        else:
            return None
    return doc
