"""One loaded version of a model: a session, its signatures, and the count of requests in it."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf.config_pb2 import CallableOptions, ConfigProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.python.client.session import Session
from tensorflow.python.framework.errors_impl import OpError
from tensorflow.python.framework.ops import Graph
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.status import StatusError, code_of_number

# Longer than this is no limit.
_LONGEST_LIMIT_S = 86_400.0
# A signature whose runs were lately shorter than this is run without a time-out, which is faster.
_SHORT_S = 0.1
_MOST_CALLABLES = 128


@dataclass(frozen=True, slots=True)
class ServableId:
    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class Signature:
    """A signature that can be run: arrays in the order of `inputs`, results in the order of the chosen outputs.

    Callables of a session are compiled once for each set of outputs; compiled ones are shared by all threads.
    """

    def __init__(self, session: Any, name: str, definition: SignatureDef) -> None:
        self.name = name
        self.definition = definition
        self.inputs: tuple[tuple[str, int], ...] = tuple(
            (alias, definition.inputs[alias].dtype % 100) for alias in sorted(definition.inputs)
        )
        self.outputs: tuple[str, ...] = tuple(sorted(definition.outputs))
        self._session = session
        self._feeds = [definition.inputs[alias].name for alias, _ in self.inputs]
        self._callables: dict[tuple[tuple[str, ...], int], Any] = {}
        self._lock = threading.Lock()
        self._lately_longest_s = 0.0

    def run(self, arrays: Sequence[Any], outputs: tuple[str, ...], remaining_s: float | None) -> list[Any]:
        """Run the graph once. Raises `StatusError` with TensorFlow's code and text.

        `remaining_s` is the caller's time left: a signature known to be slow is stopped between two operations soon
        after it (at most twice the time left, in powers of two, because a time-out is part of a callable).
        """
        limit_ms = 0
        if remaining_s is not None and remaining_s < _LONGEST_LIMIT_S and self._lately_longest_s > _SHORT_S:
            limit_ms = 1 << max(int(remaining_s * 1e3) - 1, 0).bit_length()
        started = time.perf_counter()
        try:
            run = self._callables.get((outputs, limit_ms)) or self._compile(outputs, limit_ms)
            results: list[Any] = run(*arrays)
        except OpError as error:
            raise StatusError(code_of_number(error.error_code), error.message) from None
        finally:
            self._lately_longest_s = max(time.perf_counter() - started, 0.8 * self._lately_longest_s)
        return results

    def _compile(self, outputs: tuple[str, ...], limit_ms: int) -> Any:
        options = CallableOptions()
        options.feed.extend(self._feeds)
        options.fetch.extend(self.definition.outputs[alias].name for alias in outputs)
        options.run_options.timeout_in_ms = limit_ms
        with self._lock:
            if (outputs, limit_ms) not in self._callables:
                if len(self._callables) >= _MOST_CALLABLES:
                    self._callables.clear()
                # TensorFlow's own Keras calls this too: there is no public way to a compiled callable.
                self._callables[outputs, limit_ms] = self._session._make_callable_from_options(options)  # noqa: SLF001
            return self._callables[outputs, limit_ms]

    def release(self) -> None:
        self._callables.clear()


class Servable:
    """A loaded version. Between `acquire()` and `release()` it stays open; `close` waits for those inside.

    Invariant: after `acquire()` has returned False once, it never returns True again.
    """

    def __init__(self, servable_id: ServableId, session: Any, definitions: Mapping[str, SignatureDef]) -> None:
        self.id = servable_id
        self.definitions = definitions
        self.signatures = {name: Signature(session, name, definition) for name, definition in definitions.items()}
        self._session = session
        self._condition = threading.Condition()
        self._inside = 0
        self._closing = False

    def acquire(self) -> bool:
        """Enter; False if this version is on its way out, so that the caller looks for another."""
        with self._condition:
            if self._closing:
                return False
            self._inside += 1
            return True

    def release(self) -> None:
        with self._condition:
            self._inside -= 1
            if self._closing and not self._inside:
                self._condition.notify_all()

    def close(self, wait_s: float) -> None:
        """Let no one in any more, wait for those inside (at most `wait_s`), then free the session."""
        with self._condition:
            self._closing = True
            self._condition.wait_for(lambda: not self._inside, wait_s)
        for signature in self.signatures.values():
            signature.release()
        self._session.close()


def session_config(flags: ServerFlags) -> ConfigProto:
    """`--tensorflow_session_parallelism` sets both kinds of threads; the other two flags override it."""
    both = flags.tensorflow_session_parallelism
    return ConfigProto(
        intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism or both,
        inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism or both,
        device_count={"GPU": 0},
    )


def load(servable_id: ServableId, path: Path, flags: ServerFlags) -> Servable:
    """Load a SavedModel of TensorFlow 1 or 2. Raises `StatusError` with the code that TensorFlow gives."""
    if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        text = f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"
        raise StatusError(code_of_number(5), text)
    session = None
    try:
        graph = Graph()
        with graph.as_default():
            session = Session(graph=graph, config=session_config(flags))
            loader = SavedModelLoader(str(path))
            meta_graph = loader.load(session, flags.saved_model_tags.split(","))
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
