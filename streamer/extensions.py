"""Objects that other packages provide by entry points, and their protocols. Pure.

Nothing is searched before a feature spec or a setting names one. What has been found stays for the process.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol

from streamer.errors import ConfigError

Group = Literal["ctr_streamer.codecs", "ctr_streamer.predictors", "ctr_streamer.transforms"]

_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_MEMBERS: dict[Group, tuple[str, ...]] = {
    "ctr_streamer.codecs": ("content_types", "read"),
    "ctr_streamer.predictors": ("__call__",),
    "ctr_streamer.transforms": ("version", "__call__"),
}


class Transform(Protocol):
    """Computes a feature's value from the value at its path: of group `ctr_streamer.transforms`.

    Training and the scorer call it, also in several processes. The result depends on the value only.

    Attributes:
        version: rises when the same value has another result; a spec names it.
    """

    version: int

    def __call__(self, value: Any, /) -> object:
        """The feature's value: None, a text, a number, a boolean, or a list of them.

        `value` is never None. If the call raises an error or returns something else, the feature has no value.
        """


class RequestReader(Protocol):
    """Reads requests of other content types: of group `ctr_streamer.codecs`.

    Attributes:
        content_types: media types in lower case, without parameters; none that the scorer reads itself.
    """

    content_types: frozenset[str]

    def read(self, value: bytes) -> bytes:
        """The request as this project's JSON.

        Raises:
            ValueError: the request cannot be read; the text is the reason in the answer or the dead letter.
        """


def request_readers(names: Sequence[str]) -> dict[str, RequestReader]:
    """The readers of these codecs, by content type.

    Raises:
        ConfigError: as `load`; or a content type is no lower-case media type, or two codecs read it.
    """
    found: dict[str, RequestReader] = {}
    for name in names:
        reader: RequestReader = load("ctr_streamer.codecs", name)
        for media_type in sorted(reader.content_types):
            if not _MEDIA_TYPE.fullmatch(media_type):
                raise ConfigError(f"ctr_streamer.codecs: {name!r}: {media_type!r:.60} is no media type in lower case")
            if media_type in found:
                raise ConfigError(f"ctr_streamer.codecs: {name!r}: another codec in the list reads {media_type} too")
            found[media_type] = reader
    return found


@cache
def load(group: Group, name: str) -> Any:
    """The object that the entry point `name` of a group names.

    Raises:
        ConfigError: it is not installed, two packages have it, it cannot be imported, or a member is missing.
    """
    found = entry_points(group=group, name=name)
    if not found:
        installed = ", ".join(sorted({entry.name for entry in entry_points(group=group)})) or "none"
        raise ConfigError(f"{group}: {name!r:.100} is not installed; installed: {installed}")
    (entry, *others) = found
    owners = [each.dist.name if each.dist is not None else each.value for each in found]
    if others:
        raise ConfigError(f"{group}: {name!r} is in several packages: {', '.join(sorted(owners))}; uninstall one")
    where = f"{group}: {name!r} of package {owners[0]}"
    try:
        extension = entry.load()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{where} cannot be imported: {reason:.300}") from error
    if missing := [member for member in _MEMBERS[group] if not hasattr(extension, member)]:
        raise ConfigError(f"{where}: {entry.value} has no {missing[0]}")
    return extension
