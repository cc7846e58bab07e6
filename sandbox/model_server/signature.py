"""A signature of a loaded version, with inputs and outputs as lists of arrays."""

from collections.abc import Sequence
from typing import Any

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from sandbox.model_server.graph import RunnableGraph

DEFAULT_SIGNATURE = "serving_default"


class Signature:
    """A signature that can be run.

    Arrays are in the order of `inputs` (alias, data type), results in the order of the chosen outputs.
    """

    def __init__(self, graph: RunnableGraph, name: str, definition: SignatureDef) -> None:
        self.name = name
        self.definition = definition
        self.inputs: tuple[tuple[str, int], ...] = tuple(
            (alias, dtype_of(definition.inputs[alias])) for alias in sorted(definition.inputs)
        )
        self.outputs: tuple[str, ...] = tuple(sorted(definition.outputs))
        self.graph = graph
        self._feeds = [definition.inputs[alias].name for alias, _ in self.inputs]
        self._fetches = {alias: info.name for alias, info in definition.outputs.items()}

    def run(self, arrays: Sequence[Any], outputs: Sequence[str], remaining_s: float) -> list[Any]:
        """Runs the graph once, for at most `remaining_s` (infinite: no limit).

        Raises `StatusError` with TensorFlow's code and message.
        """
        fetches = [self._fetches[alias] for alias in outputs]
        return self.graph.run(dict(zip(self._feeds, arrays, strict=True)), fetches, remaining_s)


def dtype_of(info: TensorInfo) -> int:
    """The data type, without the 100 that TensorFlow 1 adds for a reference to a variable."""
    return int(info.dtype) % 100
