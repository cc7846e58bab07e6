"""The stand-in answers as a real TensorFlow Serving did: code, text and values of each recorded call."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sandbox.replay.public_data import data_folder
from tests.public_data import require_data
from tests.sandbox.model_server.recorded.__main__ import OWN, STAND_IN
from tests.sandbox.model_server.recorded.exceptions import EXCEPTIONS
from tests.sandbox.model_server.recorded.recording import recording
from tests.sandbox.model_server.recorded.replay import replay
from tests.sandbox.model_server.recorded.servers import build_models

pytestmark = [pytest.mark.data, pytest.mark.tensorflow]

_CALLS = Path("tfserving/calls.jsonl")
# Each start of a server costs seconds, and `main` has most of the calls.
_FAST = frozenset({"main"})


def scenarios() -> Sequence[object]:
    """The scenarios that have calls; without the data those that are never slow, whose tests are then skipped."""
    if not (data_folder() / _CALLS).is_file():
        return sorted(_FAST)
    used = sorted({str(call["server"]) for call in recording().calls if "server" in call})
    return [name if name in _FAST else pytest.param(name, marks=pytest.mark.slow) for name in used]


@pytest.fixture(scope="module")
def own_models() -> Path:
    """The models of the recording that the test data lacks."""
    require_data(_CALLS)
    build_models(OWN)
    return OWN


@pytest.mark.parametrize("name", scenarios())
def test_calls_are_answered_as_recorded(name: str, own_models: Path, tmp_path: Path) -> None:
    wrong = {
        number: difference or "holds, but is listed as an exception"
        for number, difference in replay(name, STAND_IN, tmp_path, own_models)
        if (difference is None) is (number in EXCEPTIONS)
    }
    assert wrong == {}
