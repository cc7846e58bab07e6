import subprocess
import sys

import pytest


def python(code: str, seconds: float) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_predictor_does_not_import_the_runtime() -> None:
    code = (
        "import sys\n"
        "import streamer.serving.predictor, streamer.service\n"
        "print([name for name in ('tensorflow', 'tensorflow.python', 'keras') if name in sys.modules])"
    )
    assert python(code, 300) == "[]"


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_runtime_can_be_imported_afterwards() -> None:
    code = (
        "import streamer.serving.protos as messages\n"
        "import tensorflow as tf\n"
        "proto = messages.tensor_pb2.TensorProto.FromString(tf.make_tensor_proto([2.5]).SerializeToString())\n"
        "print(tf.make_ndarray(proto).tolist(), type(proto) is type(tf.make_tensor_proto([1])))"
    )
    assert python(code, 300) == "[2.5] True"
