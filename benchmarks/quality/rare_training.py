"""Draws rows with rare clicks, and trains models on them."""

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.quality.judging import TRUTH
from benchmarks.quality.logs import CONFIGS, SHOWN, SPEC, WORLD_SEED
from benchmarks.quality.rare import BATCHES, FTRL, HELD_OUT_ROWS, LBFGS, RATE, ROWS, RareRun
from benchmarks.quality.training import array_batches
from benchmarks.quality.world_rows import WorldRows, draw_rows
from model_training.config.training import TrainingConfig, load_spec
from model_training.data.examples import Examples
from model_training.data.manifest import log_odds
from model_training.evaluation.baseline import LogisticBaseline
from model_training.models.build import build_model
from model_training.training.prediction import predict
from model_training.training.single_process import train
from sandbox.world.clicks import auc
from sandbox.world.world import World
from streamer.features import FeatureSpec, Layout
from streamer.types import F32

_HELD_OUT_SEED = 0
# Of these penalties L-BFGS gets the best one for the held-out rows, which FTRL does not get.
_INVERSE_PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)


class RareClicks:
    """A world with rare clicks, and its held-out rows."""

    def __init__(self, rate: float = RATE, rows: int = ROWS, held_out: int = HELD_OUT_ROWS) -> None:
        self._world, self._rows, self.spec = World(seed=WORLD_SEED, base_ctr=rate), rows, load_spec(SPEC)
        self._held_out = self._drawn(held_out, _HELD_OUT_SEED)

    def runs(self, seed: int, models: Iterable[str]) -> Iterator[RareRun]:
        """Trains `models` on the rows of one seed.

        Raises:
            DataError: as training does.
        """
        training, later = self._drawn(self._rows, seed).examples, self._held_out
        for model in models:
            scores = later.ctr if model == TRUTH else self._scores(model, training, seed)
            ratio = float(scores.mean(dtype=np.float64) / later.ctr.mean())
            yield RareRun(model, seed, ratio, auc(later.examples.labels, scores))

    def _drawn(self, rows: int, seed: int) -> WorldRows:
        return draw_rows(self._world, self.spec, rows // SHOWN, shown=SHOWN, seed=seed)

    def _scores(self, model: str, training: Examples, seed: int) -> F32:
        later = self._held_out.examples
        if model == LBFGS:
            fitted = (_fitted(self.spec, training, later, penalty) for penalty in _INVERSE_PENALTIES)
            return max(fitted, key=lambda scores: auc(later.labels, scores))
        config = config_of(model, seed)
        clicks = log_odds(int(training.labels.sum()), len(training.labels))
        trained = build_model(config, self.spec, log_odds=clicks)
        train(trained, self.spec, array_batches(training, config), config)
        return predict(trained, self.spec, later.ids, later.floats)


def config_of(model: str, seed: int) -> TrainingConfig:
    """The config of a model for one pass."""
    found = TrainingConfig.from_yaml(CONFIGS / f"{FTRL if model in BATCHES else model}.yaml")
    changed = {"seed": seed, "epochs": 1, "batch_size": BATCHES.get(model, found.batch_size)}
    return found.model_copy(update=changed)


def _fitted(spec: FeatureSpec, training: Examples, later: Examples, penalty: float) -> F32:
    fitted = LogisticBaseline(Layout(spec), inverse_penalty=penalty).fit(training)
    return fitted.predict(later.ids, later.floats)
