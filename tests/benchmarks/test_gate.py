"""The rates of the gate's wrong decisions, on few and small simulated gates."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gate.__main__ import MARKS, main
from benchmarks.gate.simulation import SCENARIOS, TITLES, Rate, rate, runs_of, wrong
from benchmarks.gate.world import CLICK_RATE, draw, own_error, true_auc
from model_training.evaluation.metrics import evaluate


def test_models_have_the_auc_of_the_theory_and_are_calibrated() -> None:
    rng = np.random.default_rng(1)
    split = draw(20_000, rng)
    assert split.labels.mean() == pytest.approx(CLICK_RATE, abs=0.002)
    for loss in (0.0, 0.01):
        found = evaluate(split.labels, split.scores(loss, rng).astype(np.float32))
        assert found.auc == pytest.approx(true_auc(0.45 + 0.08) - loss, abs=0.006)
        assert found.calibration == pytest.approx(1, abs=0.02)
    assert own_error(0.005) > own_error(0.0) > own_error(-0.0025) > 0


def _rate(name: str, clicks: int, gates: int) -> Rate:
    return rate([wrong(name, clicks, run, seed=3) for run in range(runs_of(name, gates))])


@pytest.mark.parametrize(
    ("name", "clicks", "gates", "before", "after"),
    [
        # The least that the former gate did wrong, and the most that this one may.
        ("noise", 20, 100, 0.1, 0.0),
        ("noise_tries", 100, 100, 0.2, 0.0),
        ("worse", 300, 60, 0.0, 0.04),
        ("tries", 300, 100, 0.0, 0.2),
        ("good_first", 1_000, 20, 0.0, 0.2),
    ],
)
def test_few_worse_models_pass(name: str, clicks: int, gates: int, before: float, after: float) -> None:
    found = _rate(name, clicks, gates)
    assert found.before >= before
    assert found.after <= after


@pytest.mark.slow
def test_enough_clicks_let_good_models_pass_and_small_losses_do_not_add_up() -> None:
    assert _rate("equal", 5_000, 20).after <= 0.1
    assert _rate("better", 5_000, 20).after <= 0.1
    losses = _rate("losses", 5_000, 20)
    assert (losses.before, losses.after) == (1.0, 0.0)


def test_the_table_is_written_between_its_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    main(["--gates", "2", "--clicks", "20", "--processes", "1", f"--docs={page}"])
    text = page.read_text()
    assert all(title in text for title in TITLES.values())
    assert list(SCENARIOS) == list(TITLES)
    assert "→" in capsys.readouterr().out
    assert (text.startswith("before\n"), text.endswith("after\n"), "old" in text) == (True, True, False)
