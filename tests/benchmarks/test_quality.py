"""Evaluation of models: rows of the world, intervals, tables, pictures, and the command."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from sklearn.calibration import calibration_curve

from benchmarks.pages import replaced
from benchmarks.quality.judging import BASELINE, TRUTH, Judgement, judge, ordered
from benchmarks.quality.logs import LOGS, MODELS
from benchmarks.quality.pictures import PICTURES, binned, draw
from benchmarks.quality.rare import (
    FTRL,
    LBFGS,
    SEEDS,
    TRAINED,
    RareRun,
    behind,
    load_runs,
    missing,
    rare_figures,
    rare_part,
    save_run,
)
from benchmarks.quality.results import HeldOut, Results, Trial, is_done, load_results, save_trial
from benchmarks.quality.tables import BEGIN, END, MARKS, section
from benchmarks.quality.world_rows import WorldEncoder, draw_rows
from model_training.config.training import load_spec
from sandbox.replay.public_data import AVAZU
from sandbox.world.clicks import auc
from streamer.features import Encoder, FeatureSpec
from tests.public_data import require_data
from tests.sandbox.world.small import small_world


@pytest.fixture(scope="module")
def spec() -> FeatureSpec:
    return load_spec(Path("configs/features/world.yaml"))


def test_combined_rows_equal_those_of_the_encoder(spec: FeatureSpec) -> None:
    world, rng = small_world(), np.random.default_rng(1)
    users, contexts = world.draw_requests(rng, 40)
    ads = world.draw_shown(rng, 40, 3)
    documents = [
        {"user": orjson.loads(world.users.json[user]), "context": orjson.loads(context)}
        for user, context in zip(users.tolist(), contexts.json, strict=True)
    ]
    expected, _ = Encoder(spec).encode_log(documents, [world.ad(i) for i in ads.ravel().tolist()], [3] * 40)
    found = WorldEncoder(world, spec).rows(users, contexts.slot, contexts.hour, contexts.weekday, ads)
    np.testing.assert_array_equal(found, expected)


def test_rows_have_their_true_probabilities(spec: FeatureSpec) -> None:
    world = small_world()
    one, again, other = (draw_rows(world, spec, 5_000, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.examples.ids, again.examples.ids)
    assert (one.examples.ids != other.examples.ids).any()
    assert one.examples.ids.shape == (20_000, one.examples.ids.shape[1])
    assert len(one.users) == len(one.ctr) == len(one.examples.labels) == 20_000
    assert one.examples.labels.mean() == pytest.approx(one.ctr.mean(), abs=0.006)
    assert auc(one.examples.labels, one.ctr) > 0.75


@pytest.mark.parametrize("name", ["reference", "openrtb"])
def test_specs_with_crosses_or_numbers_are_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="without crosses"):
        WorldEncoder(small_world(), load_spec(Path(f"configs/features/{name}.yaml")))


def _results(*, known: bool = True) -> Results:
    """Three models of one truth: one ignores half of it, two differ from it by a little noise."""
    rng = np.random.default_rng(3)
    main, hidden = rng.standard_normal((2, 8_000))
    truth = 1 / (1 + np.exp(1.5 - main - hidden))
    labels = (rng.random(len(truth)) < truth).astype(np.int8)
    blind = 1 / (1 + np.exp(1.5 - main))
    scores = {BASELINE: blind, "dcn": truth * 0.999, "dcn_v2": np.clip(truth + rng.normal(0, 0.001, len(truth)), 0, 1)}
    trials = {
        name: Trial("world", name, {"kind": name}, 1_000, 4_000, 800, 1.0, 1, 2.5, ((2_000, 0.6), (4_000, 0.7)))
        for name in scores
    }
    held_out = HeldOut(labels, rng.integers(0, 900, len(truth)), truth if known else None)
    return Results(held_out, trials, {name: given.astype(np.float32) for name, given in scores.items()})


@pytest.fixture(scope="module")
def judgement() -> Judgement:
    return judge(_results(), resamples=60)


def test_the_gap_is_measured_from_the_baseline_to_the_truth(judgement: Judgement) -> None:
    assert judgement.closed(BASELINE) == 0
    assert judgement.closed(TRUTH) == 1
    assert judgement.closed("dcn") == pytest.approx(1, abs=0.01)
    for judged in judgement.judged.values():
        for interval in (judged.auc, judged.log_loss, judged.gauc):
            assert interval.low < interval.value < interval.high
    assert judgement.judged[BASELINE].calibration_error > judgement.judged[TRUTH].calibration_error


def test_only_differences_beyond_chance_are_ordered(judgement: Judgement) -> None:
    assert set(judgement.above) == {("dcn", BASELINE), ("dcn_v2", BASELINE)}
    assert judgement.pairs == 3


def test_intervals_widen_with_the_number_of_pairs() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.normal(0, 0.01, (4_000, 2)) + np.array([0.7, 0.73])
    # The difference is 2.1 standard errors: outside a single 95 % interval, inside one of fifteen.
    assert ordered({"a": 0.7, "b": 0.73}, drawn) == (("b", "a"),)
    many = np.hstack([drawn, drawn[:, :1].repeat(4, axis=1)])
    assert ordered({"a": 0.7, "b": 0.73, **dict.fromkeys("cdef", 0.7)}, many) == ()


def test_bins_are_those_of_scikit_learn() -> None:
    results = _results()
    predicted, true = binned(results.scores["dcn"], results.held_out.labels, bins=10)
    reference = calibration_curve(results.held_out.labels, results.scores["dcn"], n_bins=10, strategy="quantile")
    np.testing.assert_allclose(true, reference[0], atol=1e-3)
    np.testing.assert_allclose(predicted, reference[1], atol=1e-3)


def test_tables_state_only_what_the_intervals_prove(judgement: Judgement) -> None:
    made = section({"world": ("A world", _results(), judgement)}, {"world": [("a.png", "ROC, A world")]})
    assert "### A world" in made
    assert "4,000 rows to train on, 800 of them clicked; judged on 8,000 others" in made
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0].strip("| ") for row in rows[2:]] == [
        "true probabilities",
        "logistic regression",
        "Deep & Cross",
        "Deep & Cross v2",
    ]
    assert len({row.count("|") for row in rows}) == 1
    assert "| 0 % |" in rows[3]
    assert rows[3].endswith("| 1 | 2.5 s | 1,000 |")
    assert "Deep & Cross above logistic regression; Deep & Cross v2 above logistic regression. The other 1 of 3" in made
    assert "![ROC, A world](images/a.png)" in made


def test_without_differences_there_is_no_ranking() -> None:
    results = _results(known=False)
    alike = Results(results.held_out, results.trials, dict.fromkeys(results.trials, results.scores["dcn"]))
    made = section({"avazu": ("Avazu", alike, judge(alike, resamples=40))}, {})
    assert "**No ranking.** Of the 3 pairs" in made
    assert "gap closed" not in made
    assert "true probabilities" not in made


def test_one_model_alone_is_compared_with_chance() -> None:
    results = _results(known=False)
    trial = Trial("ipinyou", "dcn", {}, 1_000, 4_000, 80, 0.1, 2, 2.5, ())
    noise = np.random.default_rng(2).random(len(results.held_out.labels)).astype(np.float32)
    for scores, said in ((noise, True), (results.scores["dcn"], False)):
        alone = Results(results.held_out, {"dcn": trial}, {"dcn": scores})
        made = section({"ipinyou": ("iPinYou", alone, judge(alone, resamples=40))}, {})
        assert ("better than chance" in made) is said
        assert "80 of them clicked, with 10 % of the non-clicks; judged" in made


def test_only_text_between_the_marks_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replaced(page, "new", MARKS)
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replaced(once, "new", MARKS) == once
    with pytest.raises(ValueError, match="no lines"):
        replaced("a page", "new", MARKS)


def test_finished_runs_are_saved(tmp_path: Path) -> None:
    results = _results()
    assert load_results(tmp_path, MODELS) is None
    for name in ("dcn", BASELINE):
        save_trial(tmp_path, results.trials[name], results.scores[name], results.held_out)
    assert is_done(tmp_path, "dcn")
    assert not is_done(tmp_path, "dcn_v2")
    kept = load_results(tmp_path, MODELS)
    assert kept is not None
    assert list(kept.trials) == [BASELINE, "dcn"]
    assert kept.trials["dcn"] == results.trials["dcn"]
    np.testing.assert_array_equal(kept.scores["dcn"], results.scores["dcn"])
    np.testing.assert_array_equal(kept.held_out.users, results.held_out.users)
    assert kept.held_out.truth is not None
    np.testing.assert_array_equal(kept.held_out.truth, results.held_out.truth)


def test_all_pictures_are_drawn(tmp_path: Path, judgement: Judgement) -> None:
    for log, pictures in PICTURES.items():
        drawn = draw(log, "Some log", _results(), judgement, tmp_path)
        assert len(drawn) == len(pictures)
        for file, _ in drawn:
            assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")


def test_each_model_of_each_log_has_a_config() -> None:
    for log in LOGS.values():
        for model in log.models:
            assert log.config(model).model.kind == model


def test_runs_with_rare_clicks_are_saved_and_the_missing_ones_found(tmp_path: Path) -> None:
    models = (TRUTH, LBFGS, *TRAINED)
    assert list(missing(load_runs(tmp_path))) == [(seed, list(models)) for seed in SEEDS]
    for seed in (2, 1):
        for model in models:
            if (model, seed) != (FTRL, 2):
                save_run(tmp_path, RareRun(model, seed, 1.0 + seed / 100, 0.6))
    runs = load_runs(tmp_path)
    assert list(runs) == list(models)
    assert [run.seed for run in runs[TRUTH]] == [1, 2]
    left = dict(missing(runs))
    assert 1 not in left
    assert left[2] == [FTRL]


def test_models_of_rare_clicks_are_judged_by_medians_and_by_paired_auc() -> None:
    runs = {
        model: [RareRun(model, seed, ratio, auc + seed / 100) for seed, ratio in enumerate((0.8, 1.02, 1.3))]
        for model, auc in ((LBFGS, 0.65), (FTRL, 0.66), ("dcn", 0.7))
    }
    runs[LBFGS][2] = RareRun(LBFGS, 2, 1.1, 0.70)
    # FTRL is better by 0.01 with two seeds, and worse by 0.02 with the third.
    assert behind(runs) == pytest.approx((0.0, 0.01))
    figures = {figure.name: figure for figure in rare_figures(runs)}
    assert figures["rare_dcn_ratio_off"].value == pytest.approx(0.02)
    assert figures["rare_dcn_ratio_off"].holds
    assert figures["rare_lbfgs_ratio_off"].holds is None
    assert figures["rare_ftrl_behind_lbfgs"].holds
    made = rare_part(runs)
    assert "| Deep & Cross | 1.020 | 0.80–1.30 | 0.7100 ± 0.0100 |" in made
    assert "| logistic regression by FTRL, batches of 1,024 | 1.020 |" in made


@pytest.mark.slow
@pytest.mark.tensorflow
def test_one_pass_over_rare_clicks_ends_near_the_true_rate() -> None:
    # Imported here: TensorFlow takes seconds to load.
    from benchmarks.quality.rare_training import RareClicks  # noqa: PLC0415

    (run,) = RareClicks(rows=20_000, held_out=8_000).runs(1, [FTRL])
    # The rows have about 60 clicks. From a bias of 0 the ratio would be above 50.
    assert 0.6 < run.ratio < 1.6


@pytest.mark.slow
@pytest.mark.tensorflow
def test_one_pass_of_each_model_over_rare_clicks_ends_near_the_true_rate() -> None:
    from benchmarks.quality.rare_training import RareClicks  # noqa: PLC0415

    for run in RareClicks(rows=50_000, held_out=50_000).runs(1, TRAINED):
        assert 0.7 < run.ratio < 1.4, run


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.tensorflow
def test_the_command_trains_evaluates_and_writes_the_page(tmp_path: Path) -> None:
    require_data(AVAZU)
    page = tmp_path / "models.md"
    page.write_text(f"# Models\n\n{BEGIN}\n{END}\n")
    folders = {name: str(tmp_path / name) for name in ("out", "figures", "images")}
    options = [f"--{name}={folder}" for name, folder in folders.items()]
    pieces = ["world/logistic_regression", "world/wide_deep", "avazu/dcn", "tables"]
    command = [sys.executable, "-m", "benchmarks.quality", *pieces, "--rows", "40000", f"--page={page}", *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    written = page.read_text()
    assert "40,000 rows to train on" in written
    assert "19,641 rows to train on, 3,439 of them clicked" in written
    assert (tmp_path / "images" / "quality_world_roc.png").exists()
    figures = orjson.loads((tmp_path / "figures" / "quality.json").read_bytes())["figures"]
    assert figures["world_logistic_regression_auc"]["value"] > 0.6
    assert figures["world_wide_deep_gap_closed"]["bound"] == ">= 0.666667"
    assert figures["avazu_dcn_auc"]["value"] > 0.55
