"""Model configs: which ones are rejected, and how."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from model_training.config.gate import GateConfig
from model_training.config.model import KINDS, WideDeepConfig, XDeepFmConfig
from model_training.config.packaged import CONFIGS, GATE, MODEL_CONFIG
from model_training.config.training import EarlyStoppingConfig, TrainingConfig, load_spec
from model_training.errors import ConfigError


def _written(folder: Path, text: str) -> Path:
    path = folder / "model.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_reference_config_names_the_reference_spec() -> None:
    config = TrainingConfig.from_yaml(Path("configs/models/wide_deep.yaml"))
    assert load_spec(config.spec).name == "reference"
    assert config.model == WideDeepConfig(hidden_units=(256, 256, 256))


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_has_a_reference_config(kind: str) -> None:
    path = Path(f"configs/models/{kind}.yaml")
    config = TrainingConfig.from_yaml(path)
    assert config.model.kind == kind
    assert load_spec(config.spec).name == "reference"
    assert str(path) in path.read_text(encoding="utf-8").splitlines()[0]


def test_a_kind_alone_stands_for_its_defaults(tmp_path: Path) -> None:
    config = TrainingConfig.from_yaml(_written(tmp_path, "spec: s.yaml\nmodel: xdeepfm\n"))
    assert config.model == XDeepFmConfig(feature_maps=(32, 32))


def test_without_early_stopping_training_runs_to_its_end(tmp_path: Path) -> None:
    assert TrainingConfig.from_yaml(_written(tmp_path, "spec: s.yaml\n")).early_stopping is None
    config = TrainingConfig.from_yaml(_written(tmp_path, "spec: s.yaml\nearly_stopping: {}\n"))
    assert config.early_stopping == EarlyStoppingConfig(metric="auc", patience=3)


def test_a_config_is_frozen() -> None:
    config = TrainingConfig(spec=Path("spec.yaml"))
    with pytest.raises(ValidationError):
        config.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec: s.yaml\nbatchsize: 3\n", r"batchsize: unknown key; did you mean 'batch_size'\?"),
        ("spec: s.yaml\nwide: {learning_rte: 3}\n", r"wide\.learning_rte: unknown key; did you mean 'learning_rate'\?"),
        ("spec: s.yaml\nzzz: 3\n", r"zzz: unknown key; known are model, spec"),
        ("spec: s.yaml\nseed: -1\n", r"seed: .*\(got -1\)"),
        ("spec: s.yaml\nseed: 2147483648\n", r"seed: .*\(got 2147483648\)"),
        ("spec: s.yaml\nepochs: 0\n", r"epochs: .*\(got 0\)"),
        ("spec: s.yaml\nmodel: wide\n", r"model: unknown kind 'wide'; did you mean 'wide_deep'\?"),
        ("spec: s.yaml\nmodel: {kind: ffm}\n", r"model: unknown kind 'ffm'; .*deepfm"),
        (
            "spec: s.yaml\nmodel: {hidden_units: [4]}\n",
            r"model: expected a kind or a mapping with one; known are wide_deep, ",
        ),
        ("spec: s.yaml\nmodel: [wide_deep]\n", r"model: expected a kind or a mapping with one"),
        (
            "spec: s.yaml\nmodel: {kind: deepfm, hiden_units: [4]}\n",
            r"model\.hiden_units: .*; did you mean 'hidden_units'\?",
        ),
        ("spec: s.yaml\nmodel: {kind: deepfm, hidden_units: [4, 0]}\n", r"model\.hidden_units\.1: .*\(got 0\)"),
        ("spec: s.yaml\nmodel: {kind: dcn, rank: 4}\n", r"model\.rank: unknown key; known are "),
        ("spec: s.yaml\nmodel: {kind: dcn_v2, rank: 0}\n", r"model\.rank: .*\(got 0\)"),
        ("spec: s.yaml\nmodel: {kind: dcn_v2, structure: both}\n", r"model\.structure: .*\(got 'both'\)"),
        ("spec: s.yaml\nmodel: {kind: xdeepfm, feature_maps: []}\n", r"model\.feature_maps: "),
        ("spec: s.yaml\nmodel: {kind: logistic_regression, hidden_units: [4]}\n", r"model\.hidden_units: unknown key"),
        ("spec: s.yaml\nmodel: dcn\nwide: {l1: 1}\n", r"wide: model 'dcn' has no such part"),
        ("spec: s.yaml\nmodel: logistic_regression\ndeep: {}\n", r"deep: model 'logistic_regression' has no such part"),
        (
            "spec: s.yaml\nearly_stopping: {patiense: 2}\n",
            r"early_stopping\.patiense: unknown key; did you mean 'patience'\?",
        ),
        ("spec: s.yaml\nearly_stopping: {patience: 0}\n", r"early_stopping\.patience: .*\(got 0\)"),
        ("spec: s.yaml\nearly_stopping: {metric: ctr}\n", r"early_stopping\.metric: .*\(got 'ctr'\)"),
        ("spec: s.yaml\nearly_stopping: {validation_share: 1}\n", r"early_stopping\.validation_share: .*\(got 1\)"),
        (
            "spec: s.yaml\ndistributed: {mode: mirrored, backup_workers: 1}\n",
            "distributed.backup_workers: mode 'mirrored' waits for all processes, so it has no backups",
        ),
        ("spec: s.yaml\nclip_norm: 0\n", r"clip_norm: .*\(got 0\)"),
        ("spec: s.yaml\ndeep: {dropout: 1}\n", r"deep\.dropout: .*\(got 1\)"),
        ("spec: s.yaml\ndeep: {l2: -1}\n", r"deep\.l2: .*\(got -1\)"),
        ("spec: s.yaml\ndeep: {optimizer: adm}\n", r"deep\.optimizer: .*\(got 'adm'\)"),
        ("spec: s.yaml\ndeep: {schedule: {decay: step}}\n", r"deep\.schedule\.decay: .*\(got 'step'\)"),
        (
            "spec: s.yaml\ndeep: {schedule: {warmup: 1}}\n",
            r"deep\.schedule\.warmup: unknown key; did you mean 'warmup_s",
        ),
        ("spec: s.yaml\ndeep: {schedule: {warmup_share: 1}}\n", r"deep\.schedule\.warmup_share: .*\(got 1\)"),
        ("spec: s.yaml\ndeep: {schedule: {final_share: 0.1}}\n", r"deep\.schedule\.final_share: needs a decay"),
        ("spec: s.yaml\nexport: {calibration: plat}\n", r"export\.calibration: .*\(got 'plat'\)"),
        (
            "spec: s.yaml\nexport: {calibration: platt}\nearly_stopping: {final_fit: true}\n",
            r"export\.calibration: early_stopping\.final_fit learns the examples of its fit",
        ),
        ("- 1\n", "expected a mapping"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_a_wrong_config_is_rejected_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        TrainingConfig.from_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        TrainingConfig.from_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load_spec(tmp_path / "absent.yaml")


def test_a_version_computes_in_float32_unless_its_dense_layers_shall_use_bfloat16(tmp_path: Path) -> None:
    assert TrainingConfig.from_yaml(_written(tmp_path, "spec: s.yaml\n")).export.compute == "float32"
    chosen = "spec: s.yaml\nexport: {compute: bfloat16}\n"
    assert TrainingConfig.from_yaml(_written(tmp_path, chosen)).export.compute == "bfloat16"
    with pytest.raises(ConfigError, match=r"export.compute: model 'logistic_regression' has no dense layers"):
        TrainingConfig.from_yaml(_written(tmp_path, f"{chosen}model: logistic_regression\n"))
    with pytest.raises(ConfigError, match=r"export.compute: Input should be 'float32' or 'bfloat16'"):
        TrainingConfig.from_yaml(_written(tmp_path, "spec: s.yaml\nexport: {compute: float16}\n"))


def test_the_packaged_configs_are_those_of_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrainingConfig.from_yaml(MODEL_CONFIG)
    assert load_spec(config.spec).name == "reference"
    assert GateConfig.from_yaml(GATE) == GateConfig.from_yaml(CONFIGS / "gate.yaml")
    assert CONFIGS.resolve() == Path(__file__).parents[3] / "configs"
    with pytest.raises(ConfigError, match=f"No such file .*; the package has {MODEL_CONFIG}$"):
        TrainingConfig.from_yaml(Path("configs/models/wide_deep.yaml"))
    with pytest.raises(ConfigError, match=r"No such file or directory: 'configs/models/no\.yaml'$"):
        TrainingConfig.from_yaml(Path("configs/models/no.yaml"))
