"""`show` prints the gate's verdicts on a published version, also those of older cards."""

from dataclasses import asdict
from pathlib import Path

import orjson
from typer.testing import CliRunner

from model_training.commands import app
from model_training.publishing.gate import Verdict
from model_training.publishing.window import CARD
from tests.model_training.export.test_versions import write_version


def test_the_verdicts_of_a_card_are_shown_in_words(tmp_path: Path) -> None:
    verdict = Verdict("min_auc", "AUC", 0.7, 0.6, 0.8, 0.55, None, holds=True)
    new = {**asdict(verdict), "text": str(verdict)}
    old = {"limit": "max_auc_loss", "value": 0.02, "bound": 0.005, "holds": False}
    version = write_version(tmp_path / "7")
    (version / CARD).write_bytes(orjson.dumps({"gate": {"verdicts": [new, old]}}))
    shown = CliRunner().invoke(app, ["show", str(version)], env={"COLUMNS": "200"}).output
    assert "holds AUC 0.7000, interval 0.6000 to 0.8000; the lower end must be at least 0.5500" in shown
    assert "beyond 0.005: 0.02" in shown
