"""Writes the descriptors of TensorFlow Serving's messages that the scorer uses.

Source: the installed packages tensorflow-serving-api and tensorflow. They have no .proto files, but each of their
modules has the compiled form of its file. After an upgrade of one of them, from the root of the repository:
`python -m sandbox.model_server.generate_messages > streamer/serving/descriptors_pb2.py`.
"""

import importlib
import sys
from importlib.metadata import version
from typing import Any

from sandbox.model_server.lean_tensorflow import lean_tensorflow

_MODULES = (
    "tensorflow.core.framework.tensor_pb2",
    "tensorflow.core.framework.types_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.predict_pb2",
)
_WIDTH = 100
_HEAD = '''\
"""Descriptors of TensorFlow Serving's messages, generated: do not edit.

Source: {packages}, Apache License 2.0.
`python -m sandbox.model_server.generate_messages` writes this file.
"""

# Each one is the FileDescriptorProto of the file above it, unchanged. A file comes after the files that it imports.
FILES: tuple[bytes, ...] = (
'''


def descriptor_files() -> dict[str, bytes]:
    """The serialised FileDescriptorProto of each needed file by name, imported files first."""
    files: dict[str, bytes] = {}
    with lean_tensorflow():
        for name in _MODULES:
            _add(importlib.import_module(name).DESCRIPTOR, files)
    return files


def source_text() -> str:
    """The text of `streamer/serving/descriptors_pb2.py`."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow-serving-api", "tensorflow"))
    lines = [_HEAD.format(packages=packages)]
    for name, content in descriptor_files().items():
        parts = (content[at : at + _WIDTH] for at in range(0, len(content), _WIDTH))
        lines += [f"    # {name}\n", *(f"    {part!r}\n" for part in parts), "    ,\n"]
    return "".join([*lines, ")\n"])


def _add(file: Any, files: dict[str, bytes]) -> None:
    for imported in file.dependencies:
        _add(imported, files)
    files.setdefault(file.name, file.serialized_pb)


if __name__ == "__main__":
    sys.stdout.write(source_text())
