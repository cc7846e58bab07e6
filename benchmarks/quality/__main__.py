"""`make quality`: trains and evaluates the models, and writes tables and pictures.

Each run is done once and kept in `build/quality/`. `world/dcn` names one run; `tables` evaluates all finished runs.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from rich.console import Console

from benchmarks.pages import replaced
from benchmarks.quality.judging import BASELINE, TRUTH, Judgement, judge
from benchmarks.quality.logs import LOGS, Rows
from benchmarks.quality.pictures import draw
from benchmarks.quality.rare import load_runs, missing, rare_figures, rare_part, save_run
from benchmarks.quality.results import HeldOut, Results, is_done, load_results, save_trial
from benchmarks.quality.tables import MARKS, section
from benchmarks.report import Figure, write
from model_training.errors import TrainingError
from model_training.runtime import load_tensorflow
from sandbox.replay.public_data import MissingDataError

TABLES, RARE = "tables", "rare"
_CLOSED = 2 / 3
_RESAMPLES = {"world": 200}
_MANY = 2_000


def main() -> int:
    """Runs the named pieces. Exit status 1 if a run fails or the data are missing."""
    pieces = [f"{log}/{model}" for log, found in LOGS.items() for model in found.models]
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=__doc__)
    parser.add_argument(
        "piece", nargs="*", help=f"{', '.join(pieces)}, {RARE}, or {TABLES}; default: all unfinished runs"
    )
    parser.add_argument("--out", type=Path, default=Path("build/quality"), help="folder of the runs")
    parser.add_argument("--figures", type=Path, default=Path("build/bench"), help="folder of the figures")
    parser.add_argument(
        "--rows", type=int, default=2_000_000, help="training rows of the world; 1/10 more for evaluation"
    )
    parser.add_argument("--page", type=Path, default=Path("docs/models.md"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    chosen = arguments.piece or [*(p for p in pieces if not is_done(arguments.out / _log(p), _model(p))), RARE, TABLES]
    known = (*pieces, RARE, TABLES)
    unknown = [piece for piece in chosen if piece not in known]
    if unknown:
        parser.error(f"unknown piece {', '.join(map(repr, unknown))}; the pieces are {', '.join(known)}")
    console = Console(highlight=False)
    training = [piece for piece in chosen if piece in pieces]
    try:
        if training:
            run(training, arguments.out, arguments.rows, console)
        if RARE in chosen:
            run_rare(arguments.out, console)
    except (MissingDataError, TrainingError) as error:
        console.print(f"quality: {error}", style="red", markup=False)
        return 1
    if TABLES in chosen:
        publish(arguments.out, arguments.page, arguments.images, arguments.figures)
    return 0


def run(pieces: Iterable[str], out: Path, world_rows: int, console: Console) -> None:
    """Trains the models that `pieces` name, and saves the runs.

    Raises:
        MissingDataError, TrainingError: as reading and training do.
    """
    load_tensorflow()
    # Imported here: tables and pictures do not need TensorFlow.
    from benchmarks.quality.training import run_trial  # noqa: PLC0415

    @cache  # read once for all models of a log
    def rows(log: str) -> Rows:
        console.print(f"rows of {log} ...")
        return LOGS[log].rows(out / log, world_rows)

    for piece in pieces:
        log = _log(piece)
        found = rows(log)
        console.print(f"training {piece} ...")
        trial, scores = run_trial(log, found, LOGS[log].config(_model(piece)))
        save_trial(out / log, trial, scores, HeldOut(found.held_out.labels, found.users, found.truth))
        console.print(f"  {trial.rows * trial.epochs / trial.seconds:,.0f} examples/s, AUC {trial.curve[-1][1]:.4f}")


def run_rare(out: Path, console: Console) -> None:
    """Trains the models on rows with rare clicks for seeds without a run, and saves the runs.

    Raises:
        TrainingError: as training does.
    """
    left = list(missing(load_runs(out / RARE)))
    if not left:
        return
    load_tensorflow()
    # Imported here: tables and pictures do not need TensorFlow.
    from benchmarks.quality.rare_training import RareClicks  # noqa: PLC0415

    rows = RareClicks()
    for seed, models in left:
        for found in rows.runs(seed, models):
            save_run(out / RARE, found)
            console.print(f"rare clicks, seed {seed}, {found.model}: ratio {found.ratio:.3f}, AUC {found.auc:.4f}")


def publish(out: Path, page: Path, images: Path, figures: Path) -> None:
    """Evaluates the saved runs; writes the section of the page, the pictures and the figures."""
    found: dict[str, tuple[str, Results, Judgement]] = {}
    for name, log in LOGS.items():
        results = load_results(out / name, log.models)
        if results is not None:
            found[name] = (log.title, results, judge(results, resamples=_RESAMPLES.get(name, _MANY)))
    pictures = {name: draw(name, *of_log, images) for name, of_log in found.items()}
    parts, rare = [section(found, pictures)], load_runs(out / RARE)
    parts += [rare_part(rare)] if rare else []
    page.write_text(replaced(page.read_text(), "\n\n".join(parts), MARKS))
    settings = {name: {"rows": next(iter(results.trials.values())).rows} for name, (_, results, _) in found.items()}
    measured = [f for name, (_, results, judgement) in found.items() for f in figures_of(name, results, judgement)]
    measured += rare_figures(rare) if rare else ()
    write("quality", measured, settings, figures)


def figures_of(log: str, results: Results, judgement: Judgement) -> Iterator[Figure]:
    """AUC and speed of each model, and the share of the gap that it closes, if known."""
    for name, trial in results.trials.items():
        yield Figure(f"{log}_{name}_auc", judgement.judged[name].auc.value, "AUC")
        yield Figure(f"{log}_{name}_seconds", trial.seconds, "s")
        if TRUTH in judgement.judged and BASELINE in judgement.judged and name != BASELINE:
            yield Figure(f"{log}_{name}_gap_closed", judgement.closed(name), "share", ">=", _CLOSED)


def _log(piece: str) -> str:
    return piece.split("/", 1)[0]


def _model(piece: str) -> str:
    return piece.split("/", 1)[1]


if __name__ == "__main__":
    sys.exit(main())
