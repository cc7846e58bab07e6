"""Starts, files, signals and configurations: what a real TensorFlow Serving was seen to do, the stand-in does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.replay.public_data import data_folder
from tests.public_data import require_data
from tests.sandbox.model_server.recorded.__main__ import OWN, STAND_IN
from tests.sandbox.model_server.recorded.lifecycle import replay_lifecycle
from tests.sandbox.model_server.recorded.lifecycle_exceptions import LIFECYCLE_EXCEPTIONS
from tests.sandbox.model_server.recorded.recording import recording
from tests.sandbox.model_server.recorded.servers import build_models

pytestmark = [pytest.mark.data, pytest.mark.tensorflow]

_CALLS = Path("tfserving/calls.jsonl")
# One of each kind: files of flags, the command line, and a server that answers.
_FAST = frozenset({"l037", "l044", "l054", "l055", "l058"})


def lifecycles() -> list[object]:
    """The recorded lifecycles; none where the data is not there."""
    if not (data_folder() / _CALLS).is_file():
        return []
    return [
        pytest.param(call, id=call["id"], marks=() if call["id"] in _FAST else pytest.mark.slow)
        for call in recording().lifecycles()
    ]


@pytest.mark.parametrize("call", lifecycles())
def test_a_lifecycle_is_observed_as_recorded(call: Mapping[str, Any], tmp_path: Path) -> None:
    require_data(_CALLS)
    if "{own}" in str(call["steps"]):
        build_models(OWN)
    difference = replay_lifecycle(call, STAND_IN, tmp_path, OWN)
    if call["id"] in LIFECYCLE_EXCEPTIONS:
        assert difference is not None, "it holds: remove it from the exceptions"
    else:
        assert difference is None, f"{call['what']}: {difference}"
