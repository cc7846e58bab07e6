"""Outputs that cannot become classes or regressions get TensorFlow Serving's texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from sandbox.model_server.lean_tensorflow import lean_tensorflow

with lean_tensorflow():
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
    from tensorflow_serving.apis.input_pb2 import Input

    from sandbox.model_server.inference import classify, multi_inference, regress
    from sandbox.model_server.servable import Servable, ServableId
    from sandbox.model_server.status import StatusError

NAMES = np.array([[b"no", b"yes"]], object)
SCORES = np.array([[0.25, 0.75]], np.float32)
Outputs = Mapping[str, Any]


@dataclass(frozen=True)
class FakeGraph:
    outputs: Outputs

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], remaining_s: float) -> list[Any]:
        return [self.outputs[name] for name in fetches]

    def close(self) -> None: ...


def servable(outputs: Outputs) -> Servable:
    """A version with one signature, whose outputs are these."""
    definition = SignatureDef()
    definition.inputs["inputs"].name = "in:0"
    for name in outputs:
        definition.outputs[name].name = name
    return Servable(ServableId("m", 3), FakeGraph(outputs), {"serving_default": definition})


def one_example() -> Input:
    sent = Input()
    sent.example_list.examples.add()
    return sent


def message(outputs: Outputs, run: Any) -> str:
    with pytest.raises(StatusError) as error:
        run(servable(outputs), "", one_example(), remaining_s=1.0, check_method=False)
    return str(error.value).removeprefix("INVALID_ARGUMENT: ")


def test_classes_have_labels_and_scores() -> None:
    result = classify(
        servable({"classes": NAMES, "scores": SCORES}), "", one_example(), remaining_s=1.0, check_method=False
    )
    found = [(entry.label, entry.score) for entry in result.classifications[0].classes]
    assert found == [("no", 0.25), ("yes", 0.75)]


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"scores": SCORES[0]}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ({"scores": SCORES.astype(float)}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"classes": SCORES}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ({"scores": np.repeat(SCORES, 2, 0)}, "Expected scores output batch size of 1. Got: 2"),
        (
            {"classes": NAMES, "scores": SCORES[:, :1]},
            "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
        ),
        ({"scores": SCORES, "a": SCORES, "b": SCORES}, "Expected one or two output Tensors, found 3"),
    ],
)
def test_outputs_that_are_no_classes(outputs: Outputs, text: str) -> None:
    assert message(outputs, classify) == text


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (SCORES, "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]"),
        (SCORES[0], "Input batch size did not match output batch size: 1 vs. 2"),
        (np.ones(1), "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
def test_outputs_that_are_no_regressions(output: Any, text: str) -> None:
    assert message({"outputs": output}, regress) == text


def test_tasks_must_name_one_model_each() -> None:
    request = MultiInferenceRequest(input=one_example())
    request.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "m"
    request.tasks.add(method_name="tensorflow/serving/classify")
    with pytest.raises(StatusError, match="Found ModelSpec with an empty model name"):
        multi_inference(servable({"scores": SCORES}), request, remaining_s=1.0, check_method=False)
