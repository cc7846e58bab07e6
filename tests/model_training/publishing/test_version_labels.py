"""Labels in a model config file: changes, and rejection as by a server."""

import stat
from pathlib import Path

import pytest
from google.protobuf import text_format

from model_training.errors import ConfigError, ExportError
from model_training.publishing.version_labels import set_label, with_label

pytestmark = pytest.mark.tensorflow

CONFIG = """# Whose file this is.

model_config_list {
  # Lost.
  config { name: "other" base_path: "/models/other" model_platform: "tensorflow" }
  config {
    name: "ctr" base_path: "/models/ctr" model_platform: "tensorflow"
    model_version_policy { POLICY }
    version_labels { key: "canary" value: 3 }
  }
}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Versions 2, 3 and 4."""
    for version in (2, 3, 4):
        (tmp_path / "ctr" / str(version)).mkdir(parents=True)
    return tmp_path / "ctr"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "models.config"
    path.write_text(CONFIG.replace("POLICY", "latest { num_versions: 2 }"), encoding="utf-8")
    return path


def _labels(path: Path) -> dict[str, int]:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig  # noqa: PLC0415 - loads TensorFlow

    other, ctr = text_format.Parse(path.read_text(encoding="utf-8"), ModelServerConfig()).model_config_list.config
    assert not other.version_labels
    return dict(ctr.version_labels)


def test_a_label_is_set_and_moved_and_the_rest_of_the_file_is_kept(config: Path, base: Path) -> None:
    config.chmod(0o644)
    set_label(config, base, "stable", 4)
    assert _labels(config) == {"canary": 3, "stable": 4}
    set_label(config, base, "stable", 3)
    assert _labels(config) == {"canary": 3, "stable": 3}
    text = config.read_text(encoding="utf-8")
    assert text.startswith("# Whose file this is.\n\nmodel_config_list {")
    assert "num_versions: 2" in text
    assert stat.S_IMODE(config.stat().st_mode) == 0o644
    assert {path.name for path in config.parent.iterdir()} == {"ctr", "models.config"}


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("latest { num_versions: 2 }", {3, 4}),
        ("latest { }", {4}),
        ("all { }", {2, 3, 4}),
        ("specific { versions: 2 versions: 3 versions: 9 }", {2, 3}),
    ],
)
def test_a_label_names_a_served_version(config: Path, base: Path, policy: str, served: set[int]) -> None:
    text = CONFIG.replace("POLICY", policy).replace('key: "canary"', 'key: "stable"')
    config.write_text(text, encoding="utf-8")
    taken = set()
    for version in (2, 3, 4, 5):
        try:
            set_label(config, base, "stable", version)
        except ExportError as error:
            assert f"label 'stable' would name version {version} of 'ctr'" in str(error)  # noqa: PT017
        else:
            taken.add(version)
    assert taken == served


def test_a_label_that_would_lose_its_version_is_rejected(config: Path, base: Path) -> None:
    before = config.read_bytes()
    with pytest.raises(ExportError, match=r"label 'canary' would name version 3 .*\(served versions: 4, 5\)"):
        with_label(config, base, "stable", 5, [2, 3, 4, 5])
    with pytest.raises(ConfigError, match=r"has no model 'rtb'; it has 'other', 'ctr'"):
        set_label(config, base.with_name("rtb"), "stable", 4)
    assert config.read_bytes() == before
    config.write_text("model_config_list { nonsense }", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a model config of TensorFlow Serving"):
        set_label(config, base, "stable", 4)
    with pytest.raises(ConfigError, match="cannot be read"):
        set_label(config.with_name("absent"), base, "stable", 4)
