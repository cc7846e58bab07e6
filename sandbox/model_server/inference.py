"""Classify, Regress, MultiInference: checks, messages and results of TensorFlow Serving."""

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import text_format
from numpy.typing import NDArray
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from sandbox.model_server.examples import run_examples
from sandbox.model_server.servable import Servable
from sandbox.model_server.signature import DEFAULT_SIGNATURE
from sandbox.model_server.status import StatusError, invalid_argument
from sandbox.model_server.tensors import type_name

_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"

_Tensors = Mapping[str, NDArray[Any]]


def classify(
    servable: Servable, signature_name: str, sent: Input, *, remaining_s: float, check_method: bool
) -> ClassificationResult:
    """Classes of each example. `check_method`: the signature must be one for Classify.

    Raises `StatusError`.
    """
    definition = _definition(servable, signature_name)
    names = _classify_tensors(definition, check_method)
    return _classified(definition, *run_examples(servable.graph, sent, *names, remaining_s))


def regress(
    servable: Servable, signature_name: str, sent: Input, *, remaining_s: float, check_method: bool
) -> RegressionResult:
    """A number for each example. `check_method`: the signature must be one for Regress.

    Raises `StatusError`.
    """
    definition = _definition(servable, signature_name)
    names = _regress_tensors(definition, check_method)
    return _regressed(definition, *run_examples(servable.graph, sent, *names, remaining_s))


def multi_inference(
    servable: Servable, request: MultiInferenceRequest, *, remaining_s: float, check_method: bool
) -> MultiInferenceResponse:
    """Several classify and regress signatures with the same input in one run.

    Raises `StatusError`.
    """
    tasks: dict[str, tuple[str, SignatureDef]] = {}
    inputs: list[str] = []
    outputs: set[str] = set()
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in tasks:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        definition = servable.definitions.get(name)
        if definition is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in {_CLASSIFY, _REGRESS}:
            text = f"Unsupported signature method_name: {task.method_name}"
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, text)
        tensors = _classify_tensors if task.method_name == _CLASSIFY else _regress_tensors
        input_name, output_names = tensors(definition, check_method)
        tasks[name] = task.method_name, definition
        inputs.append(input_name)
        if input_name != inputs[0]:
            raise invalid_argument("Input tensor must be the same for all Signatures.")
        outputs.update(output_names)
    examples, results = run_examples(servable.graph, request.input, inputs[0], sorted(outputs), remaining_s)
    response = MultiInferenceResponse()
    for name, (method, definition) in tasks.items():
        answer = response.results.add()
        if method == _CLASSIFY:
            answer.classification_result.CopyFrom(_classified(definition, examples, results))
        else:
            answer.regression_result.CopyFrom(_regressed(definition, examples, results))
        answer.model_spec.name = servable.id.name
        answer.model_spec.version.value = servable.id.version
        answer.model_spec.signature_name = name
    return response


def _definition(servable: Servable, name: str) -> SignatureDef:
    name = name or DEFAULT_SIGNATURE
    definition = servable.definitions.get(name)
    if definition is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return definition


def _classify_tensors(definition: SignatureDef, check_method: bool) -> tuple[str, list[str]]:
    """Names of the input tensor and of the output tensors (classes, scores or both)."""
    if check_method and definition.method_name != _CLASSIFY:
        raise _wrong_method("classification", _CLASSIFY, definition)
    if len(definition.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(definition.outputs) not in {1, 2}:
        raise invalid_argument(f"Expected one or two output Tensors, found {len(definition.outputs)}")
    if "inputs" not in definition.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {_shown(definition)}")
    outputs = [definition.outputs[alias].name for alias in ("classes", "scores") if alias in definition.outputs]
    if not outputs:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_shown(definition)}"
        )
    return definition.inputs["inputs"].name, outputs


def _regress_tensors(definition: SignatureDef, check_method: bool) -> tuple[str, list[str]]:
    """Names of the input tensor and of the one output tensor."""
    if check_method and definition.method_name != _REGRESS:
        raise _wrong_method("regression", _REGRESS, definition)
    if len(definition.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(definition.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in definition.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {_shown(definition)}")
    if "outputs" not in definition.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {_shown(definition)}")
    return definition.inputs["inputs"].name, [definition.outputs["outputs"].name]


def _classified(definition: SignatureDef, examples: int, results: _Tensors) -> ClassificationResult:
    found = {alias: results[info.name] for alias, info in definition.outputs.items() if alias in {"classes", "scores"}}
    for alias, wanted in (("classes", "DT_STRING"), ("scores", "DT_FLOAT")):
        if (tensor := found.get(alias)) is None:
            continue
        if tensor.ndim != 2:
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(tensor)}")
        if (kind := type_name(tensor.dtype)) != wanted:
            raise invalid_argument(f"Expected {alias} Tensor of {wanted}. Got: {kind}")
        if len(tensor) != examples:
            raise invalid_argument(f"Expected {alias} output batch size of {examples}. Got: {len(tensor)}")
    widths = [tensor.shape[1] for _, tensor in sorted(found.items())]
    if widths[0] != widths[-1]:
        text = f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[-1]}"
        raise invalid_argument(text)
    result = ClassificationResult()
    for row in range(examples):
        classes = result.classifications.add().classes
        for column in range(widths[0]):
            entry = classes.add()
            if "classes" in found:
                entry.label = found["classes"][row, column]
            if "scores" in found:
                entry.score = found["scores"][row, column]
    return result


def _regressed(definition: SignatureDef, examples: int, results: _Tensors) -> RegressionResult:
    output = results[definition.outputs["outputs"].name]
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(output)}"
        )
    if len(output) != examples:
        raise invalid_argument(f"Input batch size did not match output batch size: {examples} vs. {len(output)}")
    if (kind := type_name(output.dtype)) != "DT_FLOAT":
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {kind}")
    result = RegressionResult()
    for value in output.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _wrong_method(kind: str, wanted: str, definition: SignatureDef) -> StatusError:
    return invalid_argument(f"Expected {kind} signature method_name to be {wanted}. Was: {definition.method_name}")


def _shown(definition: SignatureDef) -> str:
    """The definition as protobuf's C++ library prints it, with the marker that it puts before."""
    return f"goo.gle/debugstr  \n{text_format.MessageToString(definition)}"


def _shape(tensor: NDArray[Any]) -> str:
    return f"[{','.join(map(str, tensor.shape))}]"
