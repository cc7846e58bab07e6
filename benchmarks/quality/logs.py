"""The click logs of the evaluation: training rows, and later rows that no model has seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.world_rows import draw_rows
from model_training.config.model import LogisticRegressionConfig
from model_training.config.preparation import PrepareConfig, TableSource
from model_training.config.training import TrainingConfig, load_spec
from model_training.data.examples import Examples
from sandbox.replay.public_data import AVAZU, data_file
from sandbox.world.population import F64, Ints
from sandbox.world.world import World
from streamer.features import FeatureSpec, Layout

MODELS = ("logistic_regression", "wide_deep", "deepfm", "xdeepfm", "dcn", "dcn_v2")
_ONE = ("wide_deep",)
WORLD_SEED, SHOWN = 7, 4
_TRAINING_OVER_HELD_OUT = 10
CONFIGS = Path("configs/models")
SPEC = Path("configs/features/world.yaml")
# One impression in five is clicked, as in a log with down-sampled non-clicks: each row has more information.
_BASE_CTR = 0.2


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for training and evaluation.

    Attributes:
        users: [n], the user of each row of `held_out`, as numbers from 0.
        truth: float64 [n], true click probabilities of `held_out`; None if they are unknown.
        sampling_rate: share of the non-clicks that `training` kept.
    """

    spec: FeatureSpec
    training: Examples
    held_out: Examples
    users: Ints
    truth: F64 | None = None
    sampling_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Log:
    """One click log.

    Attributes:
        models: the models that are trained on it.
        configs: folder of their configs.
        settings, hidden_units: replacements for values of the configs, because of the log's size; None for no change.
        rows: reads the log, or draws that number of training rows; the folder is a cache for slow steps.
    """

    title: str
    models: tuple[str, ...]
    configs: Path
    settings: Mapping[str, object]
    hidden_units: tuple[int, ...] | None
    rows: Callable[[Path, int], Rows]

    def config(self, model: str) -> TrainingConfig:
        """The training config of `model` for this log."""
        config = TrainingConfig.from_yaml(self.configs / f"{model}.yaml")
        chosen = config.model
        if self.hidden_units is not None and not isinstance(chosen, LogisticRegressionConfig):
            chosen = chosen.model_copy(update={"hidden_units": self.hidden_units})
        return config.model_copy(update={**self.settings, "model": chosen})


def world_rows(training: int, held_out: int) -> Rows:
    """Training and held-out rows of the sandbox's world, from different requests."""
    world, spec = World(seed=WORLD_SEED, base_ctr=_BASE_CTR), load_spec(SPEC)
    drawn, later = (draw_rows(world, spec, n // SHOWN, shown=SHOWN, seed=i) for i, n in enumerate((training, held_out)))
    return Rows(spec, drawn.examples, later.examples, later.users, later.ctr)


def prepared_rows(name: str, file: Path, folder: Path) -> Rows:
    """A public log, prepared once; its validation and test rows together are held out.

    Neither split chooses anything, so both are later rows that no model has seen.

    Raises:
        MissingDataError: a file of the log is missing.
        ConfigError, DataError: as `model-training prepare` does; or the prepared rows are of an older version.
    """
    # Imported here: Spark and TensorFlow take seconds to load.
    from model_training.data.examples import joined  # noqa: PLC0415
    from model_training.data.training_data import open_prepared  # noqa: PLC0415
    from model_training.errors import DataError  # noqa: PLC0415
    from model_training.evaluation.groups import Groups  # noqa: PLC0415
    from model_training.preparation.prepare import prepare  # noqa: PLC0415
    from model_training.preparation.session import spark_session  # noqa: PLC0415

    config = PrepareConfig.from_yaml(Path(f"configs/prepare/{name}.yaml"))
    spec = load_spec(config.spec)
    directory = folder / "prepared"
    if not directory.exists():
        assert isinstance(config.source, TableSource)
        source = config.source.model_copy(update={"paths": (str(data_file(file)),)})
        with spark_session("local[2]") as spark:
            prepare(spark, config.model_copy(update={"source": source}), spec, directory)
    splits = open_prepared(directory, "validation"), open_prepared(directory, "test")
    layout = Layout(spec)
    held_out = joined(
        [block for split in splits for block in split.holdout.blocks()], layout.row_ids, layout.row_floats
    )
    users = Groups.of(held_out).users
    if users is None:
        raise DataError(f"{directory}: these rows have no users, because an older version prepared them: remove it")
    return Rows(
        spec,
        splits[0].training(),
        held_out,
        users,
        sampling_rate=splits[0].manifest.negative_sampling_rate,
    )


def _world(_: Path, training: int) -> Rows:
    return world_rows(training, training // _TRAINING_OVER_HELD_OUT)


def _public(title: str, models: tuple[str, ...], name: str, file: Path) -> Log:
    def rows(folder: Path, _: int) -> Rows:
        return prepared_rows(name, file, folder)

    # Small layers and batches, as in configs/models/avazu.yaml, because the log is small.
    return Log(title, models, CONFIGS, {"batch_size": 256, "epochs": 2}, (64, 32), rows)


LOGS: Mapping[str, Log] = {
    "world": Log("Rows of a known truth", MODELS, CONFIGS / "world", {}, None, _world),
    "avazu": _public("Avazu", MODELS, "avazu", AVAZU),
    "talkingdata": _public("TalkingData", _ONE, "talkingdata", Path("talkingdata/train_sample.csv.gz")),
    "ipinyou": _public("iPinYou", _ONE, "ipinyou", Path("ipinyou/train.decoded.tsv.gz")),
}
