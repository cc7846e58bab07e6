"""A broken version in the target is named and skipped, whatever its damage is."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_training.commands.compared import name_broken
from model_training.commands.prepare import spec_of
from model_training.export.saved_model import export
from model_training.export.served import Served
from model_training.export.warmup import WARMUP
from model_training.models.wide_deep import WideDeep
from streamer.features import FeatureSpec, Layout

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, spec: FeatureSpec) -> Path:
    return export(WideDeep(Layout(spec), [4]), spec, tmp_path_factory.mktemp("models") / "ctr", 1)


def _cut(name: str, size: int) -> Callable[[Path], None]:
    def cut(version: Path) -> None:
        file = version / name
        file.write_bytes(file.read_bytes()[:size])

    return cut


def _flip(version: Path) -> None:
    (file,) = version.glob("variables/variables.data-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def _foreign(version: Path) -> None:
    module = tf.Module()
    function = tf.function(lambda x: {"ctr": x}).get_concrete_function(x=tf.TensorSpec([None], tf.float32))
    tf.saved_model.save(module, str(version), signatures={"serving_default": function})


def _file(version: Path) -> None:
    shutil.rmtree(version)
    version.touch()


DAMAGES: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "not a folder": (_file, "not a folder"),
    "no graph": (lambda path: (path / "saved_model.pb").unlink(), "saved_model.pb is missing or empty"),
    "half of the graph": (_cut("saved_model.pb", 5_000), "cannot be loaded"),
    "a graph without content": (_cut("saved_model.pb", 2), "cannot be loaded"),
    "no variables": (lambda path: shutil.rmtree(path / "variables"), "variables are missing"),
    "an empty index": (_cut("variables/variables.index", 0), "cannot be loaded"),
    "half of the variables": (_cut("variables/variables.data-00000-of-00001", 1_000), "cannot be loaded"),
    "a changed byte of the variables": (_flip, "cannot be loaded"),
    "a model of others": (_foreign, "has no signature feature_spec, score"),
}


def test_each_broken_version_is_named_and_the_newest_working_one_is_served(
    tmp_path: Path, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "ctr"
    shutil.copytree(version, base / "1")
    for number, (change, _) in enumerate(DAMAGES.values(), 2):
        change(shutil.copytree(version, base / str(number)))
    served = Served.of(base)
    name_broken(served)
    assert served.servable is not None
    assert served.servable.path == base / "1"
    assert [found.number for found in served.found] == list(range(1, len(DAMAGES) + 2))
    printed = capsys.readouterr().out.splitlines()[::-1]
    assert len(printed) == len(DAMAGES)
    for number, (line, (_, reason)) in enumerate(zip(printed, DAMAGES.values(), strict=True), 2):
        assert line.startswith(f"{base / str(number)}: {reason}")


@pytest.mark.slow
def test_a_version_of_scores_that_are_no_probabilities_is_skipped(
    tmp_path: Path, version: Path, spec: FeatureSpec
) -> None:
    base = tmp_path / "ctr"
    shutil.copytree(version, base / "1")
    model = WideDeep(Layout(spec), [4])
    model.bias.assign(np.full(model.bias.shape, np.nan, np.float32))
    export(model, spec, base, 2)
    served = Served.of(base)
    assert served.servable is not None
    assert served.servable.path == base / "1"
    assert served.broken == (f"{base / '2'}: a score is not in [0, 1]",)


def test_the_spec_of_a_version_can_prepare_a_log(version: Path, spec: FeatureSpec) -> None:
    assert spec_of(version).hash == spec.hash


def test_a_served_version_without_warm_up_is_compared(tmp_path: Path, version: Path) -> None:
    base = tmp_path / "ctr"
    (shutil.copytree(version, base / "1") / WARMUP).unlink()
    assert Served.of(base).servable is not None


def test_a_folder_without_a_working_version_has_no_served_one(tmp_path: Path, version: Path) -> None:
    _file(shutil.copytree(version, tmp_path / "ctr" / "1"))
    assert Served.of(tmp_path / "ctr").servable is None
    assert Served.of(tmp_path / "absent") == Served((), None, ())
