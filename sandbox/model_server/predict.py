"""Predict: request → arrays → run → response, with TensorFlow Serving's checks and messages."""

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from sandbox.model_server.servable import Servable
from sandbox.model_server.signature import DEFAULT_SIGNATURE, Signature
from sandbox.model_server.status import failed_precondition, invalid_argument
from sandbox.model_server.tensors import decode, encode


def predict(servable: Servable, request: PredictRequest, *, remaining_s: float, as_content: bool) -> PredictResponse:
    """Runs a request on one loaded version.

    `remaining_s` is infinite without a deadline. Raises `StatusError`.
    """
    signature = _signature(servable, request.model_spec.signature_name)
    arrays = _inputs(signature, request.inputs)
    outputs = _outputs(signature, request.output_filter)
    results = signature.run(arrays, outputs, remaining_s)
    response = PredictResponse()
    spec = response.model_spec
    spec.name = servable.id.name
    spec.version.value = servable.id.version
    spec.signature_name = signature.name
    for alias, result in zip(outputs, results, strict=True):
        try:
            encode(result, response.outputs[alias], as_content=as_content)
        except KeyError as error:
            raise invalid_argument(f"output {alias} has a type that cannot be sent: {error}") from None
    return response


def _signature(servable: Servable, name: str) -> Signature:
    name = name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    return signature


def _inputs(signature: Signature, sent: Mapping[str, TensorProto]) -> list[NDArray[Any]]:
    """Arrays in the signature's order, with the model's defaults for absent inputs."""
    defaults = signature.definition.defaults
    if len(sent) > len(signature.inputs) or (len(sent) < len(signature.inputs) and not defaults):
        raise invalid_argument(_size_mismatch(set(sent), {alias for alias, _ in signature.inputs}))
    arrays, used = [], []
    for alias, _ in signature.inputs:
        if alias in sent:
            used.append(alias)
            arrays.append(_decoded(alias, sent[alias]))
        elif alias in defaults:
            arrays.append(_decoded(alias, defaults[alias]))
        else:
            raise invalid_argument(_missing(signature, alias, sent))
    if len(used) != len(sent):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {','.join(used)}, "
            f"request input: {','.join(sorted(sent))}"
        )
    return arrays


def _decoded(alias: str, proto: TensorProto) -> NDArray[Any]:
    try:
        return decode(proto)
    except ValueError:
        raise invalid_argument(f"tensor parsing error: {alias}") from None


def _outputs(signature: Signature, chosen: Iterable[str]) -> tuple[str, ...]:
    if not chosen:
        return signature.outputs
    seen: set[str] = set()
    for alias in chosen:
        if alias not in signature.definition.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{','.join(signature.outputs)}}}."
            )
        if alias in seen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(sorted(seen))


def _size_mismatch(sent: set[str], wanted: set[str]) -> str:
    def listed(names: set[str]) -> str:
        return "{" + ",".join(sorted(names)) + "}"

    return (
        f"input size does not match signature: {len(sent)}!={len(wanted)} len({listed(sent)}) != "
        f"len({listed(wanted)}). Sent extra: {listed(sent - wanted)}. Missing but required: {listed(wanted - sent)}."
    )


def _missing(signature: Signature, alias: str, sent: Iterable[str]) -> str:
    return (
        f"Signature input alias: {alias}(feed name: {signature.definition.inputs[alias].name}) not found in request "
        f"and no default value provided. Inputs expected to be in the request {{{','.join(sorted(sent))}}}, or "
        f"default input alias set: {','.join(sorted(signature.definition.defaults))}"
    )
