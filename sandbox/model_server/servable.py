"""One loaded version of a model: a session, its signatures, its number of active calls."""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf.config_pb2 import ConfigProto, RunOptions
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.python.client.pywrap_tf_session import TF_DeleteBuffer, TF_NewBufferFromString
from tensorflow.python.client.session import Session
from tensorflow.python.framework.errors_impl import OpError
from tensorflow.python.framework.ops import Graph
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.status import StatusError, code_of_number, invalid_argument

# A longer remaining time counts as no limit.
_LONGEST_LIMIT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ServableId:
    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class Signature:
    """A signature that can be run, with inputs and outputs as lists of arrays.

    Arrays are in the order of `inputs`, results in the order of the chosen outputs.

    It calls the session below `Session.run`. That method checks names and shapes, which costs more than a small model,
    and it rejects shape (1,) for a declared (None, 1), which TensorFlow Serving passes to the graph.
    """

    def __init__(self, session: Any, name: str, definition: SignatureDef) -> None:
        self.name = name
        self.definition = definition
        self.inputs: tuple[tuple[str, int], ...] = tuple(
            (alias, _without_reference(definition.inputs[alias].dtype)) for alias in sorted(definition.inputs)
        )
        self.outputs: tuple[str, ...] = tuple(sorted(definition.outputs))
        self._run = session._call_tf_sessionrun  # noqa: SLF001  # there is no public method
        self._feeds = [_tensor(session.graph, definition.inputs[alias].name) for alias, _ in self.inputs]
        self._fetches = {alias: _tensor(session.graph, info.name) for alias, info in definition.outputs.items()}

    def run(self, arrays: Sequence[Any], outputs: tuple[str, ...], remaining_s: float) -> list[Any]:
        """Runs the graph once. Raises `StatusError` with TensorFlow's code and message.

        TensorFlow stops the run between two operations after `remaining_s` (infinite: no limit).
        """
        fetches = [self._fetches[alias] for alias in outputs]
        feeds = dict(zip(self._feeds, arrays, strict=True))
        if None in fetches or None in feeds:
            raise invalid_argument(f"signature {self.name} has inputs or outputs that are not tensors of the graph")
        options = None
        if remaining_s < _LONGEST_LIMIT_S:
            limit = RunOptions(timeout_in_ms=max(math.ceil(remaining_s * 1e3), 1))
            options = TF_NewBufferFromString(limit.SerializeToString())
        try:
            results: list[Any] = self._run(options, feeds, fetches, [], None)
        except OpError as error:
            raise StatusError(code_of_number(error.error_code), error.message) from None
        finally:
            if options is not None:
                TF_DeleteBuffer(options)
        return results


def _without_reference(dtype: int) -> int:
    """The data type without the 100 that TensorFlow 1 adds for a reference to a variable."""
    return dtype % 100


def _tensor(graph: Any, name: str) -> Any:
    """The graph's handle of a tensor; None if the name is unknown or belongs to an operation."""
    try:
        return graph.as_graph_element(name, allow_operation=False)._as_tf_output()  # noqa: SLF001
    except (KeyError, TypeError, ValueError):
        return None


class Servable:
    """A loaded version.

    It stays open between `acquire()` and `release()`; `close` waits for active calls.

    Invariant: after `acquire()` has returned False, it never returns True again.
    """

    def __init__(self, servable_id: ServableId, session: Any, definitions: Mapping[str, SignatureDef]) -> None:
        self.id = servable_id
        self.definitions = definitions
        self.signatures = {name: Signature(session, name, definition) for name, definition in definitions.items()}
        self._session = session
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
        """Rejects new calls, waits at most `wait_s` for active calls, then closes the session."""
        with self._condition:
            self._closing = True
            self._condition.wait_for(lambda: not self._active, wait_s)
        self._session.close()


def session_config(flags: ServerFlags) -> ConfigProto:
    """The session's numbers of threads; `--tensorflow_session_parallelism` sets both defaults."""
    both = flags.tensorflow_session_parallelism
    return ConfigProto(
        intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism or both,
        inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism or both,
        device_count={"GPU": 0},
    )


def load(servable_id: ServableId, path: Path, flags: ServerFlags) -> Servable:
    """Loads a SavedModel of TensorFlow 1 or 2. Raises `StatusError` with TensorFlow's code.

    As TensorFlow Serving it also loads a graph whose variables are missing; each call of it then fails.
    """
    if path.is_file():
        raise StatusError(code_of_number(9), f"{path}/saved_model.pb; Not a directory")
    if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        text = f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"
        raise StatusError(code_of_number(5), text)
    session = None
    try:
        graph = Graph()
        with graph.as_default():
            session = Session(graph=graph, config=session_config(flags))
            loader, tags = SavedModelLoader(str(path)), flags.saved_model_tags.split(",")
            saver, _ = loader.load_graph(graph, tags)
            if (path / "variables" / "variables.index").is_file():
                loader.restore_variables(session, saver)
            loader.run_init_ops(session, tags)
            meta_graph = loader.get_meta_graph_def_from_tags(tags)
            graph.finalize()
    except OpError as error:
        _close(session)
        raise StatusError(code_of_number(error.error_code), error.message) from None
    except OSError as error:
        _close(session)
        raise StatusError(code_of_number(3), f"Cannot load SavedModel at {path}: {error}") from None
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        _close(session)
        raise StatusError(code_of_number(3), f"Cannot load SavedModel at {path}: {error}") from None
    definitions = {name: SignatureDef.FromString(d.SerializeToString()) for name, d in meta_graph.signature_def.items()}
    return Servable(servable_id, session, definitions)


def _close(session: Any) -> None:
    if session is not None:
        session.close()
