"""tf.Example messages from the JSON of `:classify` and `:regress`."""

from typing import Any

import pytest

from sandbox.model_server.lean_tensorflow import lean_tensorflow
from sandbox.model_server.status import StatusError

with lean_tensorflow():
    from sandbox.model_server.rest_examples import example_input


def test_features_have_the_type_of_their_values() -> None:
    example = {"f": [1.5, 2.5], "i": 3, "b": [True, 7], "s": ["é", {"b64": "/w=="}]}
    (found,) = example_input({"examples": [example]}).example_list.examples
    features = found.features.feature
    assert list(features["f"].float_list.value) == [1.5, 2.5]
    assert list(features["i"].int64_list.value) == [3]
    assert list(features["b"].int64_list.value) == [1, 7]
    assert list(features["s"].bytes_list.value) == ["é".encode(), b"\xff"]


def test_a_context_goes_with_the_examples() -> None:
    found = example_input({"context": {"x": 4.0}, "examples": [{}, {}]}).example_list_with_context
    assert found.context.features.feature["x"].float_list.value[0] == 4.0
    assert len(found.examples) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 5}, "JSON Value: {\n    \"examples\": 5\n} Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ({"examples": [5]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"x": [1, 2.5]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64 element. Only int64 is supported."),
    ],
)
def test_wrong_examples_are_rejected(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(StatusError) as failed:
        example_input(body)
    assert failed.value.message == reason
