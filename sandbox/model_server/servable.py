"""One loaded version of a model: a graph, its signatures, its number of active calls."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.python.client.session import Session
from tensorflow.python.framework.errors_impl import OpError
from tensorflow.python.framework.ops import Graph
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from sandbox.model_server.batching import BatchedGraph, BatchThreads
from sandbox.model_server.batching_parameters import Batching
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.graph import RunnableGraph, SessionGraph
from sandbox.model_server.monitoring import ServerMetrics
from sandbox.model_server.signature import Signature
from sandbox.model_server.status import StatusError, code_of_number, not_found


@dataclass(frozen=True, slots=True)
class ServableId:
    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class Servable:
    """A loaded version.

    It stays open between `acquire()` and `release()`; `close` waits for active calls.

    Invariant: after `acquire()` has returned False, it never returns True again.
    """

    def __init__(self, servable_id: ServableId, graph: RunnableGraph, definitions: Mapping[str, SignatureDef]) -> None:
        self.id = servable_id
        self.definitions = definitions
        self.signatures = {name: Signature(graph, name, definition) for name, definition in definitions.items()}
        self.graph = graph
        self._condition = threading.Condition()
        self._active = 0
        self._closing = False

    def acquire(self) -> bool:
        """Starts a call; returns False if this version closes: use another version then."""
        with self._condition:
            if self._closing:
                return False
            self._active += 1
            return True

    def release(self) -> None:
        with self._condition:
            self._active -= 1
            if self._closing and not self._active:
                self._condition.notify_all()

    def close(self, wait_s: float) -> None:
        """Rejects new calls, waits at most `wait_s` for active calls, then closes the graph."""
        with self._condition:
            self._closing = True
            self._condition.wait_for(lambda: not self._active, wait_s)
        self.graph.close()


def session_config(flags: ServerFlags) -> ConfigProto:
    """The session's numbers of threads; `--tensorflow_session_parallelism` sets both defaults."""
    both = flags.tensorflow_session_parallelism
    return ConfigProto(
        intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism or both,
        inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism or both,
        device_count={"GPU": 0},
    )


def load(
    servable_id: ServableId,
    path: Path,
    flags: ServerFlags,
    batching: Batching | None,
    threads: BatchThreads,
    *,
    metrics: ServerMetrics,
) -> Servable:
    """Loads a SavedModel of TensorFlow 1 or 2. Raises `StatusError` with TensorFlow's code.

    As TensorFlow Serving it also loads a graph whose variables are missing; each call of it then fails.
    """
    if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise not_found(
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`saved_model.pb`)\nSpecified file path: {path}"
        )
    tags = flags.saved_model_tags.split(",")
    session = None
    try:
        loader, meta_graph = _described(path, tags)
        graph = Graph()
        with graph.as_default():
            session = Session(graph=graph, config=session_config(flags))
            with metrics.load_stage(str(path), "restore_graph"):
                saver, _ = loader.load_graph(graph, tags)
                if (path / "variables" / "variables.index").is_file():
                    loader.restore_variables(session, saver)
            with metrics.load_stage(str(path), "init_graph"):
                loader.run_init_ops(session, tags)
            graph.finalize()
    except OpError as error:
        _close(session)
        raise StatusError(code_of_number(error.error_code), error.message) from None
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        _close(session)
        raise StatusError(code_of_number(3), f"Cannot load SavedModel at {path}: {error}") from None
    definitions = {name: SignatureDef.FromString(d.SerializeToString()) for name, d in meta_graph.signature_def.items()}
    served: RunnableGraph = SessionGraph(session)
    if batching is not None:
        served = BatchedGraph(served, definitions.values(), batching, threads)
    return Servable(servable_id, served, definitions)


def _described(path: Path, tags: list[str]) -> tuple[SavedModelLoader, Any]:
    """The loader of a SavedModel and its graph with these tags. Raises `StatusError`."""
    try:
        loader = SavedModelLoader(str(path))
    except OSError:  # the file cannot be parsed
        raise StatusError(code_of_number(11), "Read less bytes than requested") from None
    try:
        return loader, loader.get_meta_graph_def_from_tags(tags)
    except RuntimeError:
        raise not_found(
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect available "
            "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        ) from None


def _close(session: Any) -> None:
    if session is not None:
        session.close()
