"""The steps of docs/bring-your-own-model.md."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from sandbox.processes.model_server import ModelServerProcess
from tests.end_to_end.conftest import System

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow]

DOCUMENT = Path(__file__).parents[2] / "docs" / "bring-your-own-model.md"


@pytest.mark.slow
def test_a_model_with_only_serving_default_is_served(make_system: Callable[[str], System], tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(# my-model.yaml\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    spec = tmp_path / "my-model.yaml"
    spec.write_text(text, encoding="utf-8")
    base = tmp_path / "my-model"
    subprocess.run([sys.executable, "-m", "tests.end_to_end.foreign_model", str(base / "3")], check=True, timeout=600)
    document = {
        "request_id": "r",
        "user": {"sex": "m", "likes": ["a", "b"]},
        "context": {"hour": 20},
        "candidates": [{"ad_id": "x", "bid": 1.5}, {"ad_id": "y", "bid": 4}],
    }
    with ModelServerProcess(base, "my-model", log_path=tmp_path / "server.log") as server:
        system = make_system(server.address)
        with system.scorer(predictor__models=["my-model"], predictor__spec_files={"my-model": str(spec)}):
            system.send([orjson.dumps(document)])
            answer = system.answers(1)["r"]
    assert answer["status"] == "ok", answer
    assert answer["model"] == {"name": "my-model", "version": 3}
    # sex 3 (m), two likes, 20 o'clock.
    assert answer["ctr"] == pytest.approx([(3 + 20 + 100 * 21.5) / 1e4, (3 + 20 + 100 * 24) / 1e4], rel=1e-5)
