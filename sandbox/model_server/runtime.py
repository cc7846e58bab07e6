"""The parts of TensorFlow that serving needs, without the rest.

Running a SavedModel takes the C++ runtime, a session and the loader. `import tensorflow` brings Keras, distribution
strategies and some 4,000 more modules, which is most of a server's start. A bare parent package in `sys.modules`
lets the submodules that are asked for load alone.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def keep_tensorflow_lean() -> None:
    """Make `import tensorflow.x` load x only, for the rest of this process; nothing if tensorflow is loaded already."""
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
    """Within it `import tensorflow.x` loads x only; after it `import tensorflow` is the whole package again.

    For processes that need messages now and perhaps all of TensorFlow later.
    """
    present = "tensorflow" in sys.modules
    keep_tensorflow_lean()
    try:
        yield
    finally:
        if not present:
            del sys.modules["tensorflow"]
