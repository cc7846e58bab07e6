"""Starts, files, signals and configurations: what a real TensorFlow Serving was seen to do, the stand-in does."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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
_AT_ONCE = 4
Replays = Mapping[str, Future[str | None]]
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


@pytest.fixture(scope="module")
def replays(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replays]:
    """The difference of each chosen lifecycle. Several run at the same time, because most of their time is waiting."""
    require_data(_CALLS)
    names = {item.name for item in request.session.items}
    chosen = [call for call in recording().lifecycles() if any(f"[{call['id']}]" in name for name in names)]
    if any("{own}" in str(call["steps"]) for call in chosen):
        build_models(OWN)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {
            call["id"]: pool.submit(replay_lifecycle, call, STAND_IN, tmp_path_factory.mktemp(call["id"]), OWN)
            for call in chosen
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("call", lifecycles())
def test_a_lifecycle_is_observed_as_recorded(call: Mapping[str, Any], replays: Replays) -> None:
    difference = replays[call["id"]].result()
    if call["id"] in LIFECYCLE_EXCEPTIONS:
        assert difference is not None, "it holds: remove it from the exceptions"
    else:
        assert difference is None, f"{call['what']}: {difference}"
