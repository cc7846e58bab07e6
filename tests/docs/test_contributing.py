"""The worked examples of CONTRIBUTING.md work as they stand."""

from pathlib import Path

import pytest

from tests.docs.worked_examples import apply, copy_of_the_repository, edited, run, worked_examples
from tests.model_training.conftest import click_log

EXAMPLES = worked_examples()


def _prepared(name: str, tmp_path: Path) -> Path:
    """A copy of the repository with the files of an example."""
    root = copy_of_the_repository(tmp_path / "copy")
    for block in EXAMPLES[name]:
        if block.kind != "sh":
            apply(block, root)
    return root


def _succeeds(command: str, root: Path) -> str:
    result = run(command, root)
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


def _commands_succeed(name: str, root: Path) -> None:
    _succeeds("ruff format --check . && ruff check .", root)
    for block in EXAMPLES[name]:
        if block.kind == "sh":
            for command in block.text.splitlines():
                _succeeds(command, root)


def test_all_examples_are_tried() -> None:
    assert list(EXAMPLES) == ["Add a stage", "Add a model", "Add a feature kind", "Add a setting"]
    for blocks in EXAMPLES.values():
        assert {"python", "diff", "sh"} <= {block.kind for block in blocks}
        assert all(bool(block.path) != (block.kind == "sh") for block in blocks)


@pytest.mark.slow
def test_a_stage(tmp_path: Path) -> None:
    root = _prepared("Add a stage", tmp_path)
    _commands_succeed("Add a stage", root)


def test_an_impure_stage_is_rejected(tmp_path: Path) -> None:
    root = _prepared("Add a stage", tmp_path)
    stage = root / "streamer/scoring/ctr_bounds.py"
    stage.write_text(f"{stage.read_text(encoding='utf-8')}\nimport time\n", encoding="utf-8")
    result = run("lint-imports", root)
    assert result.returncode == 1
    assert "streamer.scoring.ctr_bounds -> time" in result.stdout


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_model(tmp_path: Path) -> None:
    root = _prepared("Add a model", tmp_path)
    click_log(root / "clicks.jsonl", 500)
    _commands_succeed("Add a model", root)
    assert (root / "models/fm/1/saved_model.pb").is_file()


@pytest.mark.slow
def test_a_feature_kind(tmp_path: Path) -> None:
    root = _prepared("Add a feature kind", tmp_path)
    _commands_succeed("Add a feature kind", root)


@pytest.mark.slow
def test_a_setting(tmp_path: Path) -> None:
    root = _prepared("Add a setting", tmp_path)
    _commands_succeed("Add a setting", root)
    assert "| `max_request_id_chars` | `256` |" in (root / "docs/settings.md").read_text(encoding="utf-8")
    wrong = run("STREAMER_CODEC__MAX_REQUEST_ID_CHARS=0 streamer check-config", root)
    assert wrong.returncode == 2
    assert "codec.max_request_id_chars" in wrong.stderr


@pytest.mark.slow
def test_types_of_all_examples_together(tmp_path: Path) -> None:
    root = copy_of_the_repository(tmp_path / "copy")
    for blocks in EXAMPLES.values():
        for block in blocks:
            if block.kind != "sh":
                apply(block, root)
    _succeeds("mypy", root)


def test_an_edit_fits_in_exactly_one_place() -> None:
    content = "a = 1\nb = 2\na = 1\nc = 3\n"
    assert edited(content, " b…\n+d = 4\n") == "a = 1\nb = 2\nd = 4\na = 1\nc = 3\n"
    assert edited(content, "-b = 2\n a = 1\n+d = 4\n") == "a = 1\na = 1\nd = 4\nc = 3\n"
    with pytest.raises(ValueError, match="2 places"):
        edited(content, " a = 1\n+d = 4\n")
    with pytest.raises(ValueError, match="0 places"):
        edited(content, "-b = 3\n")
