"""Message classes of TensorFlow Serving's API, imported without the TensorFlow runtime.

`tensorflow_serving.apis` imports `tensorflow.core…_pb2` and with it `tensorflow/__init__.py`, which takes 590 MB and
1.6 s. During the import an empty module with the package's search path replaces `tensorflow`, so that only the `_pb2`
modules load. It is removed afterwards: a process can still import the runtime, before or after this module.
"""

import importlib.util
import sys
from types import ModuleType


def _install_placeholder() -> ModuleType | None:
    if "tensorflow" in sys.modules:
        return None
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.submodule_search_locations is None:
        raise ImportError("the package tensorflow is not installed; its message classes are needed")
    placeholder = ModuleType("tensorflow")
    placeholder.__path__ = list(found.submodule_search_locations)
    sys.modules["tensorflow"] = placeholder
    return placeholder


_placeholder = _install_placeholder()
try:
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
finally:
    if _placeholder is not None:
        del sys.modules["tensorflow"]

__all__ = ["get_model_metadata_pb2", "get_model_status_pb2", "predict_pb2", "tensor_pb2", "types_pb2"]
