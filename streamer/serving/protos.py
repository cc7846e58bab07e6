"""TensorFlow Serving's messages without the TensorFlow runtime.

`tensorflow_serving.apis` imports `tensorflow.core…_pb2`, and with it `tensorflow/__init__.py`: 590 MB and 1.6 s for a
handful of message classes. A bare module with the real package's search path lets only the `_pb2` modules load. It is
taken away again, so that a process that wants the runtime (a test) can still import it, before or after.
"""

import importlib.util
import sys
from types import ModuleType


def _without_runtime() -> ModuleType | None:
    if "tensorflow" in sys.modules:
        return None
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.submodule_search_locations is None:
        raise ImportError("the package tensorflow is not installed; its message classes are needed")
    bare = ModuleType("tensorflow")
    bare.__path__ = list(found.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    return bare


_bare = _without_runtime()
try:
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        predict_pb2,
    )
finally:
    if _bare is not None:
        del sys.modules["tensorflow"]

__all__ = [
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "model_pb2",
    "predict_pb2",
    "tensor_pb2",
    "types_pb2",
]
