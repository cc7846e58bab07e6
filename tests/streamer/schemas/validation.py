"""Validators of the contracts, for the tests."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from streamer.features import FeatureSpec
from streamer.schemas.catalogue import contract
from streamer.settings import Settings


@cache
def validator(name: str, spec: FeatureSpec | None = None) -> Any:
    """The validator of a contract."""
    return Draft202012Validator(contract(name, Settings(), spec))


def closed(schema: Any) -> Any:
    """The schema without room for keys that it does not describe."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    # Conditions describe no keys of their own.
    return {"additionalProperties": False, **inner} if schema.get("type") == "object" else inner


def faults(name: str, value: bytes | object, spec: FeatureSpec | None = None) -> list[str]:
    """What the schema rejects in a document, or in the JSON of one."""
    document = orjson.loads(value) if isinstance(value, bytes) else value
    return [f"{error.json_path}: {error.message:.200}" for error in validator(name, spec).iter_errors(document)]
