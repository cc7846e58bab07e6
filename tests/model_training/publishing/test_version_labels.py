"""Labels in a model config file: changes, and rejection as by a server."""

import stat
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from model_training.errors import ConfigError, ExportError
from model_training.export.versions import Found
from model_training.publishing import version_labels
from model_training.publishing.config_text import set_in_text
from model_training.publishing.version_labels import set_label, with_label
from tests.model_training.export.test_versions import write_version

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
        write_version(tmp_path / "ctr" / str(version))
    return tmp_path / "ctr"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "models.config"
    path.write_text(CONFIG.replace("POLICY", "latest { num_versions: 2 }"), encoding="utf-8")
    return path


def _labels(path: Path) -> dict[str, int]:
    other, ctr = text_format.Parse(path.read_text(encoding="utf-8"), ModelServerConfig()).model_config_list.config
    assert not other.version_labels
    return dict(ctr.version_labels)


def test_a_label_is_set_and_moved_and_the_rest_of_the_file_is_kept(config: Path, base: Path) -> None:
    config.chmod(0o644)
    before = config.read_text(encoding="utf-8")
    set_label(config, base, "stable", 4)
    assert _labels(config) == {"canary": 3, "stable": 4}
    set_label(config, base, "stable", 3)
    assert _labels(config) == {"canary": 3, "stable": 3}
    text = config.read_text(encoding="utf-8")
    assert text == before.replace("  }\n}\n", '    version_labels { key: "stable" value: 3 }\n  }\n}\n')
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
        with_label(config, base, "stable", 5, [Found(number, base, None) for number in (2, 3, 4, 5)])
    with pytest.raises(ConfigError, match=r"has no model 'rtb'; it has 'other', 'ctr'"):
        set_label(config, base.with_name("rtb"), "stable", 4)
    assert config.read_bytes() == before
    config.write_text("model_config_list { nonsense }", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a model config of TensorFlow Serving"):
        set_label(config, base, "stable", 4)
    with pytest.raises(ConfigError, match="cannot be read"):
        set_label(config.with_name("absent"), base, "stable", 4)


def test_a_label_does_not_name_a_broken_version_nor_one_that_a_broken_one_displaces(config: Path, base: Path) -> None:
    """A server gives a file, or half a version, one of the places of `latest`."""
    write_version(base / "5", "variables/variables.index")
    text = config.read_text(encoding="utf-8").replace("value: 3", "value: 4")
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match=r"served versions: 4\); .*/ctr/5: variables are missing"):
        set_label(config, base, "stable", 5)
    with pytest.raises(ExportError, match=r"label 'stable' would name version 3 .*\(served versions: 4\)"):
        set_label(config, base, "stable", 3)
    set_label(config, base, "stable", 4)
    assert _labels(config) == {"canary": 4, "stable": 4}


def test_a_link_to_the_file_stays_and_the_file_keeps_its_line_ends(config: Path, base: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.config"
    link.symlink_to(config)
    before = config.read_bytes().replace(b"\n", b"\r\n")
    config.write_bytes(before)
    set_label(link, base, "canary", 4)
    assert link.is_symlink()
    assert config.read_bytes() == before.replace(b"value: 3", b"value: 4")


STABLE = '    version_labels { key: "stable" value: 4 }\n'
AROUND = """# Head.
model_config_list: {  # of two models
  config {
    name: "other } \\" {" base_path: '/x' model_version_policy { all { } } version_labels { key: "stable" value: 9 }
  }
  MODEL
  # Tail.
}
"""


@pytest.mark.parametrize(
    ("model", "changed"),
    [
        ('config { name: "ctr" }', 'config { name: "ctr" version_labels { key: "stable" value: 4 } }'),
        ("config: <name: 'ctr';>", "config: <name: 'ctr'; version_labels { key: \"stable\" value: 4 } >"),
        ('config {\n    name: "ctr" # }\n  }', f'config {{\n    name: "ctr" # }}\n{STABLE}  }}'),
        (
            'config {\n name: "ctr" # a name\n version_labels: [{key: "old", value: 4}, {value: 2 key: "stable"}]\n}',
            'config {\n name: "ctr" # a name\n version_labels: [{key: "old", value: 4}, {value: 4 key: "stable"}]\n}',
        ),
        (
            'config { name: "c" "tr" version_labels { key: "\\163table" } }',
            'config { name: "c" "tr" version_labels { key: "\\163table"  value: 4 } }',
        ),
        (
            'config { name: "ctr" version_labels <key: "stable" value: 1> version_labels { key: "stable" value: 2 } }',
            'config { name: "ctr" version_labels <key: "stable" value: 1> version_labels { key: "stable" value: 4 } }',
        ),
    ],
)
def test_only_the_label_changes_in_the_text(base: Path, config: Path, model: str, changed: str) -> None:
    config.write_text(AROUND.replace("MODEL", model), encoding="utf-8")
    set_label(config, base, "stable", 4)
    assert config.read_text(encoding="utf-8") == AROUND.replace("MODEL", changed)


def test_a_text_whose_place_is_not_found_is_not_changed(
    config: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config.read_bytes()
    monkeypatch.setattr(version_labels, "set_in_text", lambda text, *_: text.replace("/models/other", "/else"))
    with pytest.raises(ConfigError, match="cannot be set without a change of other settings; set it by hand"):
        set_label(config, base, "stable", 4)
    assert config.read_bytes() == before
    assert set_in_text("model_config_list { config { } }", 1, "stable", 4) is None
    assert set_in_text("}", 0, "stable", 4) is None


def test_a_model_that_is_listed_twice_is_named_as_a_server_does(config: Path, base: Path) -> None:
    text = config.read_text(encoding="utf-8").replace('name: "other"', 'name: "ctr"')
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="has twice model 'ctr'"):
        set_label(config, base, "stable", 4)


_space = st.sampled_from([" ", "\n", "\n  ", ' # { "\n'])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_label_is_set_in_any_layout_and_no_other_setting_changes(data: st.DataObject) -> None:
    def spaced(*parts: str) -> str:
        return "".join(part + data.draw(_space) for part in parts)

    def model(name: str) -> str:
        labels = data.draw(st.dictionaries(st.sampled_from(["stable", "canary", "a'b", "\\n"]), st.integers(0, 9)))
        entries = [
            spaced(
                data.draw(st.sampled_from(["version_labels {", "version_labels: <"])), f'key: "{key}"', f"value: {at}"
            )
            for key, at in labels.items()
        ]
        closed = [entry + (">" if "<" in entry.split("#")[0] else "}") for entry in entries]
        return spaced("config {", *data.draw(st.permutations([f"name: '{name}'", 'base_path: "/{"', *closed])), "}")

    text = spaced("model_config_list {", model("a"), model("b"), model("c"), "}")
    position = data.draw(st.integers(0, 2))
    changed = set_in_text(text, position, "stable", 77)
    assert changed is not None
    expected = text_format.Parse(text, ModelServerConfig())
    expected.model_config_list.config[position].version_labels["stable"] = 77
    assert text_format.Parse(changed, ModelServerConfig()) == expected
    assert text.count("#") == changed.count("#")
