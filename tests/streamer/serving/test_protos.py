"""The scorer's message classes are those of tensorflow-serving-api, and need neither it nor TensorFlow."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.model_server.generate_messages import source_text
from sandbox.model_server.lean_tensorflow import lean_tensorflow
from streamer.serving import descriptors_pb2, protos

MODULES = {
    "tensor_pb2": "tensorflow.core.framework.tensor_pb2",
    "types_pb2": "tensorflow.core.framework.types_pb2",
    "get_model_metadata_pb2": "tensorflow_serving.apis.get_model_metadata_pb2",
    "get_model_status_pb2": "tensorflow_serving.apis.get_model_status_pb2",
    "predict_pb2": "tensorflow_serving.apis.predict_pb2",
}
# A message of the scorer's class and of the package's class, both with the same bytes.
EXCHANGE = """
import streamer.service
from streamer.serving.protos import predict_pb2
own = predict_pb2.PredictRequest()
own.model_spec.name = "ctr"
own.inputs["x"].float_val.append(2.5)
theirs = tensorflow_serving.apis.predict_pb2.PredictRequest.FromString(own.SerializeToString())
assert type(own) is not type(theirs)
print(tf.make_ndarray(tf.make_tensor_proto([theirs.inputs["x"].float_val[0]])).tolist(), theirs.model_spec.name)
"""


def python(code: str, seconds: float = 300) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def enum(found: Any) -> list[tuple[str, int]]:
    return [(value.name, value.number) for value in found.values]


def messages(found: Any, seen: set[str]) -> Iterator[tuple[Any, ...]]:
    """The fields of a message and of all messages that it contains: names, numbers, types, labels."""
    if found.full_name in seen:
        return
    seen.add(found.full_name)
    for field in found.fields:
        kind = field.message_type or field.enum_type
        yield (field.full_name, field.number, field.type, field.is_repeated, kind and kind.full_name, field.json_name)
        if field.enum_type:
            yield (kind.full_name, *enum(kind))
        elif field.message_type:
            yield from messages(kind, seen)


def test_the_descriptors_are_those_of_the_installed_packages() -> None:
    assert Path(descriptors_pb2.__file__).read_text() == source_text(), (
        "run python -m sandbox.model_server.generate_messages > streamer/serving/descriptors_pb2.py"
    )


@pytest.mark.parametrize("name", MODULES)
def test_names_numbers_types_and_labels_are_those_of_the_installed_packages(name: str) -> None:
    with lean_tensorflow():
        installed = importlib.import_module(MODULES[name])
    own = getattr(protos, name)
    descriptor = installed.DESCRIPTOR
    assert descriptor.message_types_by_name or descriptor.enum_types_by_name
    for message in descriptor.message_types_by_name:
        found, expected = (getattr(module, message).DESCRIPTOR for module in (own, installed))
        assert found.full_name == expected.full_name
        assert list(messages(found, set())) == list(messages(expected, set()))
    for kind in descriptor.enum_types_by_name:
        assert enum(getattr(own, kind).DESCRIPTOR) == enum(getattr(installed, kind).DESCRIPTOR)
        assert getattr(own, kind).items() == getattr(installed, kind).items()


def test_the_scorer_imports_nothing_of_tensorflow() -> None:
    code = (
        "import sys\n"
        "import streamer.serving.predictor, streamer.service\n"
        "print([name for name in sys.modules if name.startswith(('tensorflow', 'keras'))])"
    )
    assert python(code) == "[]"


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("first", ["scorer", "packages", "lean packages", "model server"])
def test_the_packages_can_be_loaded_in_the_same_process(first: str) -> None:
    packages = "import tensorflow as tf, tensorflow_serving.apis.predict_pb2\n"
    before = {
        "scorer": "import streamer.service\n",
        "packages": "",
        "lean packages": "from sandbox.model_server.lean_tensorflow import lean_tensorflow\n"
        "with lean_tensorflow(): import tensorflow_serving.apis.predict_pb2\n",
        "model server": "import sandbox.model_server.services, sandbox.model_server.warmup\n",
    }
    assert python(before[first] + packages + EXCHANGE) == "[2.5] ctr"
