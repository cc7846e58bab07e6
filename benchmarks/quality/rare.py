"""Where the scores of models end after one pass over rows with rare clicks. Pure.

A seed decides the rows and clicks, their order, and the model's initial weights.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev

from benchmarks.quality.judging import TRUTH
from benchmarks.quality.tables import NAMES
from benchmarks.report import Figure

RATE, ROWS, HELD_OUT_ROWS = 0.003, 100_000, 200_000
SEEDS = range(1, 11)
LBFGS, FTRL = "lbfgs", "logistic_regression"
BATCHES: Mapping[str, int] = {FTRL: 1024, f"{FTRL}_64": 64, f"{FTRL}_8192": 8192}
"""Batch sizes of logistic regression, by name of the run."""
TRAINED = (*BATCHES, "wide_deep", "deepfm", "xdeepfm", "dcn", "dcn_v2")
_NAMES: Mapping[str, str] = {
    **NAMES,
    **{run: f"logistic regression by FTRL, batches of {size:,}" for run, size in BATCHES.items()},
    LBFGS: "logistic regression by L-BFGS",
}
_FARTHEST = 0.1
_FILE = "runs.jsonl"


@dataclass(frozen=True, slots=True)
class RareRun:
    """One model and one seed; `ratio`: mean score / mean true probability of held-out rows."""

    model: str
    seed: int
    ratio: float
    auc: float


Runs = Mapping[str, Sequence[RareRun]]
"""Runs by model, in order of seeds."""


def load_runs(folder: Path) -> Runs:
    """The finished runs."""
    path = folder / _FILE
    lines = path.read_text().splitlines() if path.exists() else []
    found = sorted((RareRun(**json.loads(line)) for line in lines), key=lambda run: run.seed)
    models = (TRUTH, LBFGS, *TRAINED)
    return {model: own for model in models if (own := [run for run in found if run.model == model])}


def save_run(folder: Path, run: RareRun) -> None:
    """Adds a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _FILE).open("a") as file:
        file.write(json.dumps(asdict(run)) + "\n")


def missing(runs: Runs) -> Iterator[tuple[int, list[str]]]:
    """Each seed with the models that it has no run of."""
    done = {(run.model, run.seed) for own in runs.values() for run in own}
    for seed in SEEDS:
        if left := [model for model in (TRUTH, LBFGS, *TRAINED) if (model, seed) not in done]:
            yield seed, left


def behind(runs: Runs) -> tuple[float, float]:
    """AUC of L-BFGS - AUC of FTRL: the mean over common seeds, and its standard error."""
    by_seed = {run.seed: run.auc for run in runs[LBFGS]}
    apart = [by_seed[run.seed] - run.auc for run in runs[FTRL] if run.seed in by_seed]
    return fmean(apart), stdev(apart) / len(apart) ** 0.5


def rare_part(runs: Runs) -> str:
    """The section of the page."""
    apart, error = behind(runs)
    rows = [
        f"| {_NAMES[model]} | {median(r.ratio for r in own):.3f} | {min(r.ratio for r in own):.2f}–"
        f"{max(r.ratio for r in own):.2f} | {fmean(r.auc for r in own):.4f} ± {_spread(own):.4f} |"
        for model, own in runs.items()
    ]
    return "\n\n".join(
        [
            "### Rare clicks",
            f"{ROWS:,} rows of the same world with a click rate of {100 * RATE:g} %, one pass, the models of"
            f" `configs/models/` with these features, {len(SEEDS)} seeds; judged on {HELD_OUT_ROWS:,} other rows. A"
            " ratio is the mean score / the mean true probability. An AUC is the mean ± the standard deviation over"
            f" seeds. The rows have about {RATE * ROWS:.0f} clicks. This number differs from seed to seed by"
            f" {100 / (RATE * ROWS) ** 0.5:.0f} % by chance; the ratio differs more, because it follows the last rows.",
            "\n".join(["| model | ratio, median | all seeds | AUC |", "|---|---|---|---|", *rows]),
            f"On the same rows the AUC of L-BFGS minus that of FTRL is {apart:+.4f} ± {error:.4f} (standard error)."
            " L-BFGS has the best of five penalties for the held-out rows, and FTRL has not.",
        ]
    )


def rare_figures(runs: Runs) -> Iterator[Figure]:
    """Distance of each median ratio from 1, and FTRL's AUC - that of L-BFGS, in standard errors."""
    for model, own in runs.items():
        off = abs(median(run.ratio for run in own) - 1)
        yield Figure(f"rare_{model}_ratio_off", off, "share", *(("<=", _FARTHEST) if model in TRAINED else ()))
    apart, error = behind(runs)
    yield Figure("rare_ftrl_behind_lbfgs", apart / error, "standard errors", "<=", 2.0)


def _spread(own: Sequence[RareRun]) -> float:
    return stdev(run.auc for run in own) if len(own) > 1 else 0.0
