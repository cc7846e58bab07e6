"""Saves and loads runs in `build/quality/<log>/`: facts and scores per model, held-out rows."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sandbox.world.population import F64, Ints
from streamer.types import F32, I8

_HELD_OUT = "held_out.npz"


@dataclass(frozen=True, slots=True)
class Trial:
    """One model, trained on one log.

    Attributes:
        settings: the model's section of the config.
        rows: number of training rows, which it saw `epochs` times; clicks: clicked rows among them.
        sampling_rate: share of the log's non-clicks among these rows; the scores are corrected for it.
        seconds: time of training alone.
        curve: pairs of examples seen and AUC on the first held-out rows.
    """

    log: str
    model: str
    settings: Mapping[str, Any]
    parameters: int
    rows: int
    clicks: int
    sampling_rate: float
    epochs: int
    seconds: float
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The n held-out rows.

    Attributes:
        users: [n], the user of each row, as numbers from 0.
        truth: float64 [n], true click probabilities; None if they are unknown.
    """

    labels: I8
    users: Ints
    truth: F64 | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """Runs of one log: trials, and float32 scores [n] of the held-out rows, by model."""

    held_out: HeldOut
    trials: Mapping[str, Trial]
    scores: Mapping[str, F32]


def save_trial(folder: Path, trial: Trial, scores: F32, held_out: HeldOut) -> None:
    """Saves a finished run.

    The file of facts is written last, so an interrupted run does not count.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"labels": held_out.labels, "users": held_out.users, "truth": held_out.truth}
    arrays = {name: array for name, array in kept.items() if array is not None}
    np.savez(folder / _HELD_OUT, **arrays)  # type: ignore[arg-type]
    np.save(folder / f"{trial.model}.npy", scores)
    (folder / f"{trial.model}.json").write_text(json.dumps(asdict(trial), indent=2) + "\n")


def load_results(folder: Path, models: tuple[str, ...]) -> Results | None:
    """The finished runs of `models`, in that order; None if there are none."""
    found = [model for model in models if is_done(folder, model)]
    if not found:
        return None
    with np.load(folder / _HELD_OUT) as kept:
        held_out = HeldOut(kept["labels"], kept["users"], kept.get("truth"))
    trials = {model: _trial(folder / f"{model}.json") for model in found}
    return Results(held_out, trials, {model: np.load(folder / f"{model}.npy") for model in found})


def is_done(folder: Path, model: str) -> bool:
    """Whether that run is finished."""
    return (folder / f"{model}.json").exists()


def _trial(path: Path) -> Trial:
    content = json.loads(path.read_text())
    return Trial(**{**content, "curve": tuple((examples, auc) for examples, auc in content["curve"])})
