"""`tf.Example` messages of a `:classify` or `:regress` body. Pure."""

from collections.abc import Mapping
from typing import Any

from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow_serving.apis.input_pb2 import Input

from sandbox.model_server.rest_json import decoded, is_base64, json_type
from sandbox.model_server.rest_text import json_text
from sandbox.model_server.status import invalid_argument

_INT64_MAX = 2**63 - 1
_KINDS = {None: "UNKNOWN", "bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def example_input(body: Mapping[str, Any]) -> Input:
    """The `examples` of a body, with its `context` if there is one.

    Raises:
        StatusError: the examples are not as TensorFlow Serving needs them.
        UnicodeEncodeError: the name of a feature is not UTF-8.
    """
    found = Input()
    if "context" in body:
        _fill(found.example_list_with_context.context, body["context"])
    examples = body.get("examples")
    if "examples" not in body:
        reason = "When method is classify, key 'examples' is expected and was not found"
    elif not isinstance(examples, list):
        reason = "Expecting 'examples' value to be an list/array"
    elif not examples:
        reason = "'examples' value is an empty array"
    else:
        listed = found.example_list_with_context if "context" in body else found.example_list
        for example in examples:
            _fill(listed.examples.add(), example)
        return found
    raise invalid_argument(f"JSON Value: {json_text(body)} {reason}")


def _fill(example: Example, value: object) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {json_type(value)}")
    for name, content in value.items():
        feature = Feature()
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)
        example.features.feature[name].CopyFrom(feature)


def _add(feature: Feature, name: str, item: Any) -> None:
    """Adds a value; the first one decides the kind of a feature."""
    kind, value = _value(name, item)
    if feature.WhichOneof("kind") not in {None, kind}:
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {_KINDS[feature.WhichOneof('kind')]}"
        )
    getattr(feature, kind).value.append(value)


def _value(name: str, item: Any) -> tuple[str, bytes | float]:
    if isinstance(item, str):
        return "bytes_list", item.encode("utf-8", "surrogateescape")
    if is_base64(item):
        return "bytes_list", decoded(item)
    if isinstance(item, float):
        return "float_list", item
    if isinstance(item, int):
        if item > _INT64_MAX:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64_list", int(item)
    raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {json_type(item)}")
