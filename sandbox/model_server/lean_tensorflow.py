"""Imports single modules of TensorFlow without the whole package.

A SavedModel needs the C++ runtime, a session and the loader. `import tensorflow` also loads Keras, distribution
strategies and some 4,000 more modules, which is most of the start time of a server. With a bare parent package in
`sys.modules`, an import of a submodule loads only that submodule.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def keep_tensorflow_lean() -> None:
    """From now on `import tensorflow.x` loads only x in this process.

    No effect if tensorflow is already loaded.
    """
    if "tensorflow" in sys.modules:
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("tensorflow is not installed: install the extra `sandbox`", name="tensorflow")
    package = ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules["tensorflow"] = package


@contextmanager
def lean_tensorflow() -> Iterator[None]:
    """Within the block `import tensorflow.x` loads only x; afterwards imports work as usual.

    For processes that need TensorFlow's messages now and may need the whole package later.
    """
    present = "tensorflow" in sys.modules
    keep_tensorflow_lean()
    try:
        yield
    finally:
        if not present:
            del sys.modules["tensorflow"]
