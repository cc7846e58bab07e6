"""The models and configurations of TensorFlow Serving's own tests, on our server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.processes.model_server import ModelServerError, ModelServerProcess
from sandbox.replay.public_data import data_folder
from tests.public_data import require_data
from tests.sandbox.model_server.client import Client, tensor

pytestmark = [pytest.mark.data, pytest.mark.tensorflow, pytest.mark.slow]

SERVING = data_folder() / "tfserving" / "tensorflow_serving"
TESTDATA = SERVING / "servables" / "tensorflow" / "testdata"
GOOD_CONFIG = Path("tfserving/tensorflow_serving/servables/tensorflow/testdata/good_model_config.txt")
BASES = {
    "half_plus_two": TESTDATA / "saved_model_half_plus_two_cpu",
    "half_plus_two_tf2": TESTDATA / "saved_model_half_plus_two_tf2_cpu",
    "half_plus_three": TESTDATA / "saved_model_half_plus_three",
    "with_config": TESTDATA / "saved_model_half_plus_two_cpu_with_saved_model_config",
    "versions": TESTDATA / "saved_model_half_plus_two_2_versions",
    "counter": TESTDATA / "saved_model_counter",
    "matrix": SERVING / "batching" / "testdata" / "matrix_half_plus_two",
}


@pytest.fixture(scope="module")
def testdata() -> Path:
    require_data(GOOD_CONFIG)
    return TESTDATA


@pytest.fixture(scope="module")
def client(testdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of all these models, with the good configuration of the test data, and more."""
    folder = tmp_path_factory.mktemp("data")
    good = (testdata / "good_model_config.txt").read_text(encoding="utf-8")
    for variable, base in (("HALF_PLUS_TWO", "half_plus_two"), ("HALF_PLUS_THREE", "half_plus_three")):
        good = good.replace(f"${{TEST_{variable}_DIR}}", str(BASES[base].resolve()))
    more = "".join(
        f', config {{ name: "{name}" base_path: "{base.resolve()}" model_platform: "tensorflow" '
        f"model_version_policy {{ all {{}} }} }}"
        for name, base in BASES.items()
        if f'name: "{name}"' not in good
    )
    config = folder / "models.config"
    config.write_text(good.rstrip().removesuffix("}") + more + "}", encoding="utf-8")
    server = ModelServerProcess(config=config, log_path=folder / "log")
    with server:
        client = Client(server.address)
        yield client
        client.close()


@pytest.mark.parametrize("model", ["half_plus_two", "half_plus_two_tf2", "with_config", "versions"])
def test_half_plus_two_answers_three_for_two(client: Client, model: str) -> None:
    assert client.predict(model, {"x": tensor([2.0])}) == {"y": [3.0]}


def test_half_plus_three_of_tensorflow_1_answers_four_for_two(client: Client) -> None:
    assert client.predict("half_plus_three", {"x": tensor([2.0])}) == {"y": [4.0]}


def test_two_versions_are_served(client: Client) -> None:
    assert client.states("versions") == {124: "AVAILABLE", 123: "AVAILABLE"}
    assert client.line(2.0, "versions", version=123) == 3.0
    assert client.line(2.0, "versions", version=124) == 3.0


def test_a_model_of_matrices(client: Client) -> None:
    ones = [[[1.0] * 3] * 3]
    assert client.predict("matrix", {"x": tensor(ones)}) == {"y": [[[2.5] * 3] * 3]}


def test_a_model_with_state_counts_its_calls(client: Client) -> None:
    assert client.predict("counter", {}, signature="reset_counter") == {"output": 0.0}
    assert client.predict("counter", {}, signature="incr_counter") == {"output": 1.0}
    assert client.predict("counter", {"delta": tensor(5.0)}, signature="incr_counter_by") == {"output": 6.0}
    assert client.predict("counter", {}, signature="get_counter") == {"output": 6.0}


def test_the_bad_configuration_is_rejected(testdata: Path, tmp_path: Path) -> None:
    server = ModelServerProcess(config=testdata / "bad_model_config.txt", log_path=tmp_path / "log")
    with pytest.raises(ModelServerError, match="Invalid protobuf file"):
        server.start()
