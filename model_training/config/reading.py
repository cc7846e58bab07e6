"""Reads config files as frozen values.

An error is one line that names the file, the key and the value.
"""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from model_training.config.packaged import packaged_instead
from model_training.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)
Kinds = Mapping[str, type[BaseModel]]


def read_yaml(cls: type[Config], path: Path, unions: Mapping[str, Kinds]) -> Config:
    """Reads a config file as a `cls`.

    Args:
        unions: for each key of `cls` whose value is one of several kinds, those kinds by name.

    Raises:
        ConfigError: names the file, the key and the value, and for an unknown key the nearest valid one.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = f"{' '.join(str(error).split())}{packaged_instead(path)}"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of settings")
    try:
        return cls.model_validate(content)
    except ValidationError as error:
        raise ConfigError("; ".join(_readable(str(path), cls, unions, error))) from None


def _readable(source: str, cls: type[BaseModel], unions: Mapping[str, Kinds], error: ValidationError) -> Iterable[str]:
    for found in error.errors():
        section, path = _placed([str(part) for part in found["loc"]], cls, unions)
        where = ".".join(path)
        kinds = unions.get(path[0], {}) if path else {}
        match found["type"]:
            case "extra_forbidden":
                yield f"{source}: {where}: unknown key; {_nearest(path[-1], section.model_fields)}"
            case "union_tag_not_found" | "model_attributes_type":
                yield f"{source}: {where}: expected a kind or a mapping with one; known are {', '.join(kinds)}"
            case "union_tag_invalid":
                kind = found["ctx"]["tag"]
                yield f"{source}: {where}: unknown kind {kind!r}; {_nearest(kind, kinds)}"
            case "value_error":
                yield f"{source}: {found['ctx']['error']}"
            case _:
                got = "" if isinstance(found["input"], dict) else f" (got {found['input']!r})"
                yield f"{source}: {where}: {found['msg']}{got}"


def _placed(path: list[str], cls: type[BaseModel], unions: Mapping[str, Kinds]) -> tuple[type[BaseModel], list[str]]:
    """The config class of the last key of an error's path, and the path as in the file."""
    if len(path) > 1 and path[0] in unions:
        # After the key of a union, pydantic's path names the chosen member.
        return unions[path[0]][path[1]], [path[0], *path[2:]]
    section = cls
    for key in path[:-1]:
        annotation = section.model_fields[key].annotation
        # An optional section is a union with None.
        parts = [part for part in (annotation, *get_args(annotation)) if isinstance(part, type)]
        section = next((part for part in parts if issubclass(part, BaseModel)), section)
    return section, path


def _nearest(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


class Value(BaseModel):
    """A frozen value that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
