"""Places of a spec file that a person must complete, as `streamer spec init` marks them."""

from collections.abc import Iterator

from streamer.errors import SpecError

COMPLETE = "complete this: "
"""The start of a text in the place of a value that is still missing."""
_SHOWN = 5


def reject_placeholders(content: object, source: str) -> None:
    """Raises SpecError, one line, if the content of a file still has places to complete."""
    found = [text.removeprefix(COMPLETE) for text in _texts(content) if text.startswith(COMPLETE)]
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise SpecError(f"{source}: complete this: {', '.join(found[:_SHOWN])}{more}")


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
