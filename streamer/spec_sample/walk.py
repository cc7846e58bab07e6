"""The values of a JSON object by their paths in a spec. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from streamer.features.paths import MAX_STEPS
from streamer.spec_sample.form import Document, can_be_named


class Found(NamedTuple):
    """The values at one path of an object.

    Attributes:
        path: as in a spec; `[*]` where a list has objects.
        values: scalars, without null and the empty text.
        longest: elements of the longest list of objects on the path; 0 without one.
        is_list: whether the value itself is a list.
        fault: why no path can lead there; None for values.
    """

    path: str
    values: list[object]
    longest: int = 0
    is_list: bool = False
    fault: str | None = None


def walk(document: Document, left_out: frozenset[str] = frozenset(), first_only: str | None = None) -> list[Found]:
    """The values of a document, each path once.

    Args:
        left_out: paths that are not followed.
        first_only: a key with a list of objects of which only the first one is read.
    """
    merged: dict[str, Found] = {}
    for key, value in document.items():
        if key == first_only and isinstance(value, list):
            found = _values(value[0], f"{key}[0]", left_out, MAX_STEPS - 2) if value else iter(())
        else:
            found = _of_key(key, value, "", left_out, MAX_STEPS)
        for each in found:
            known = merged.get(each.path)
            if known is not None:
                longest, is_list = max(known.longest, each.longest), known.is_list or each.is_list
                each = Found(each.path, known.values + each.values, longest, is_list, each.fault)  # noqa: PLW2901
            merged[each.path] = each
    return list(merged.values())


def _of_key(key: str, value: object, outer: str, left_out: frozenset[str], steps: int) -> Iterator[Found]:
    path = f"{outer}.{key}" if outer else key
    if path in left_out:
        return
    if not can_be_named(key):
        yield Found(path, [], fault="a path cannot name this key")
        return
    yield from _values(value, path, left_out, steps - 1)


def _values(value: object, path: str, left_out: frozenset[str], steps: int) -> Iterator[Found]:
    """The values at a path and below it, which can have so many more `steps`."""
    if steps < 0:
        yield Found(path, [], fault=f"a path has at most {MAX_STEPS} steps")
        return
    if isinstance(value, dict):
        if not value:
            yield Found(path, [])
        for key, inner in value.items():
            yield from _of_key(key, inner, path, left_out, steps)
    elif not isinstance(value, list):
        yield Found(path, [] if value is None or value == "" else [value])
    elif any(isinstance(item, dict) for item in value):
        for item in value:
            for found in _values(item, f"{path}[*]", left_out, steps - 1):
                yield found._replace(longest=max(len(value), found.longest))
    elif any(isinstance(item, list) for item in value):
        yield Found(path, [], fault="a list of lists")
    else:
        yield Found(path, [item for item in value if item is not None and item != ""], is_list=True)
