"""`show` prints what is known of a version; a damaged record is one line that names file and field."""

from dataclasses import asdict
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from model_training.commands import app
from model_training.lineage.lineage import FILE, Code, Lineage, Machine
from model_training.publishing.card import CARD
from model_training.publishing.gate import Verdict
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


def test_a_verdict_without_numbers_is_shown(tmp_path: Path) -> None:
    verdict = {"limit": "min_auc", "value": None, "bound": 0.5, "holds": False}  # JSON has no NaN
    version = write_version(tmp_path / "7")
    (version / CARD).write_bytes(orjson.dumps({"gate": {"verdicts": [verdict]}}))
    assert "beyond 0.5: not known" in CliRunner().invoke(app, ["show", str(version)], env={"COLUMNS": "200"}).output


_LINEAGE: dict[str, object] = {
    **Lineage(
        {"model": {"kind": "dcn"}}, 1, "small", "0", None, None, None, Code("1"),
        Machine("3", {}, "x86_64", "cpu", (), 1), "2026-07-01T00:00:00+00:00", "2026-07-01T00:01:00+00:00",
    ).content()
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CARD, b"", "cannot be read: "),
        (CARD, b'{"gate": {"verd', "cannot be read: "),
        (CARD, b"\xff", "cannot be read: "),
        (CARD, [1], "expected a JSON object"),
        (CARD, None, "expected a JSON object"),
        (CARD, {"gate": 3}, "gate: "),
        (CARD, {"gate": {"verdicts": {"a": 1}}}, "gate.verdicts: "),
        (CARD, {"gate": {"verdicts": [{"limit": "a"}]}}, "gate.verdicts.0.holds: "),
        (CARD, {"unseen": ["candidate"]}, "unseen: "),
        (CARD, {"published_at": 3}, "published_at: "),
        (CARD, {"spec": "small"}, "spec: "),
        (FILE, b"{", "cannot be read: "),
        (FILE, [], "expected a JSON object"),
        (FILE, {}, "config: "),
        (FILE, _LINEAGE | {"format": "1"}, None),
        (FILE, _LINEAGE | {"format": 9}, "a newer version of this program wrote it"),
        (FILE, _LINEAGE | {"format": None}, "format: "),
        (FILE, _LINEAGE | {"config": {"model": 3}}, None),
        (FILE, _LINEAGE | {"config": 3}, "config: "),
        (FILE, _LINEAGE | {"started_at": "yesterday"}, "started_at: "),
        (FILE, _LINEAGE | {"ended_at": "2026-07-01T00:00:00"}, "ended_at: "),
        (FILE, _LINEAGE | {"begins_with": {"path": "a"}}, "begins_with.sha256: "),
        (FILE, _LINEAGE | {"machine": []}, "machine"),
        (FILE, _LINEAGE | {"data": {"kind": "log"}}, "data.path: "),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, name: str, content: object, message: str | None) -> None:
    version = write_version(tmp_path / "7")
    path = version / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    for more in ((), ("--json",)):
        result = CliRunner().invoke(app, ["show", str(version), *more])
        if message is None:
            assert result.exit_code == 0, result.output
            continue
        assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
        assert result.output.startswith(f"error: {path}: {message}"), result.output
        assert isinstance(result.exception, SystemExit)


def test_a_record_that_is_a_folder_is_one_line(tmp_path: Path) -> None:
    version = write_version(tmp_path / "7")
    (version / CARD).mkdir()
    result = CliRunner().invoke(app, ["show", str(version)])
    assert (result.exit_code, "model_card.json: cannot be read: Is a directory" in result.output) == (2, True)
