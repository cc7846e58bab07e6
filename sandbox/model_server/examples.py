"""`tf.Example` inputs of Classify, Regress and MultiInference."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow_serving.apis.input_pb2 import Input

from sandbox.model_server.graph import RunnableGraph
from sandbox.model_server.status import invalid_argument


def serialized_examples(sent: Input) -> NDArray[Any]:
    """One serialized `tf.Example` for each example, object [n].

    The bytes of a shared context come before those of each example: of two features of one name the last counts.

    Raises `StatusError` (INVALID_ARGUMENT) if there is no example.
    """
    context = b""
    examples = sent.example_list.examples
    if sent.WhichOneof("kind") == "example_list_with_context":
        context = sent.example_list_with_context.context.SerializeToString()
        examples = sent.example_list_with_context.examples
    if not examples:
        raise invalid_argument("Input is empty.")
    return np.array([context + example.SerializeToString() for example in examples], object)


def run_examples(
    graph: RunnableGraph, sent: Input, input_name: str, output_names: list[str], remaining_s: float
) -> tuple[int, dict[str, NDArray[Any]]]:
    """The number of examples, and the fetched tensors by name.

    Raises `StatusError`.
    """
    examples = serialized_examples(sent)
    results = graph.run({input_name: examples}, output_names, remaining_s)
    return len(examples), {name: np.asarray(result) for name, result in zip(output_names, results, strict=True)}
