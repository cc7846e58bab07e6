"""Runs tensors of a loaded graph by their names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import grpc
from tensorflow.core.protobuf.config_pb2 import RunOptions
from tensorflow.python.client.pywrap_tf_session import TF_DeleteBuffer, TF_NewBufferFromString
from tensorflow.python.framework.errors_impl import OpError

from sandbox.model_server.status import StatusError, code_of_number

# A longer remaining time counts as no limit.
_LONGEST_LIMIT_S = 86_400.0


class RunnableGraph(Protocol):
    """Computes tensors of a graph from others."""

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], remaining_s: float) -> list[Any]: ...

    def close(self) -> None: ...


class SessionGraph:
    """The graph of a TensorFlow session.

    It calls the session below `Session.run`. That method checks names and shapes, which costs more than a small model,
    and it rejects shape (1,) for a declared (None, 1), which TensorFlow Serving passes to the graph.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._run = session._call_tf_sessionrun  # noqa: SLF001  # there is no public method
        self._handles: dict[str, Any] = {}

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], remaining_s: float) -> list[Any]:
        """Runs the graph once: arrays by tensor name → an array for each fetched name.

        TensorFlow stops the run between two operations after `remaining_s` (infinite: no limit). Raises `StatusError`
        with TensorFlow's code and message.
        """
        inputs = {self._handle(name): array for name, array in feeds.items()}
        outputs = [self._handle(name) for name in fetches]
        options = None
        if remaining_s < _LONGEST_LIMIT_S:
            limit = RunOptions(timeout_in_ms=max(math.ceil(remaining_s * 1e3), 1))
            options = TF_NewBufferFromString(limit.SerializeToString())
        try:
            results: list[Any] = self._run(options, inputs, outputs, [], None)
        except OpError as error:
            raise StatusError(code_of_number(error.error_code), error.message) from None
        finally:
            if options is not None:
                TF_DeleteBuffer(options)
        return results

    def close(self) -> None:
        self._session.close()

    def _handle(self, name: str) -> Any:
        handle = self._handles.get(name)
        if handle is None:
            try:
                element = self._session.graph.as_graph_element(name, allow_operation=False)
            except (KeyError, TypeError, ValueError):
                text = f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph"
                raise StatusError(grpc.StatusCode.NOT_FOUND, text) from None
            self._handles[name] = handle = element._as_tf_output()  # noqa: SLF001
        return handle
