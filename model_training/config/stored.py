"""Reads JSON files that this program has written, as frozen values; each error is one line."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, TypeAdapter, ValidationError

from model_training.errors import ExportError, in_a_line

Stored = TypeVar("Stored")


def _is_a_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


Time = Annotated[str, AfterValidator(_is_a_time)]
"""A time in ISO 8601, with its offset from UTC."""


def read_object(path: Path) -> Mapping[str, Any] | None:
    """The JSON object in a file of a version; None if there is no file.

    Raises:
        ExportError: the file cannot be read, or has no JSON object.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: cannot be read: {in_a_line(error)}") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path}: expected a JSON object")
    return content


def as_stored(adapter: TypeAdapter[Stored], content: Mapping[str, Any], path: Path) -> Stored:
    """The value of a JSON object that was read from `path`.

    Raises:
        ExportError: names the file and the first field that is missing or wrong.
    """
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ExportError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
