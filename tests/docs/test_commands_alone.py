"""Commands of the pages that need no service run as they are written."""

import shutil

import pytest
import yaml

from tests.deploy.kubernetes import require_program
from tests.docs.page_commands import ALONE, commands_for
from tests.docs.shells import Shells
from tests.model_training.conftest import click_log

pytestmark = pytest.mark.slow

NOTHING = f"{ALONE}::test_commands_that_need_nothing"
PAGES = ("docs/capacity.md", "docs/distributed-training.md", "docs/requests.md", "docs/stand-in.md")


@pytest.mark.tensorflow
@pytest.mark.parametrize(("page", "command"), [(page, line) for page in PAGES for line in commands_for(page, NOTHING)])
def test_commands_that_need_nothing(page: str, command: str, shells: Shells) -> None:
    # The help of TensorFlow Serving, and so of its stand-in, ends with status 255.
    shown = shells.run(command, status=255 if command.endswith("tensorflow_model_server --help") else 0)
    written = shells.folder / "build/schemas/request.json"
    assert written.is_file() if " --to " in command else shown, page


@pytest.mark.tensorflow
def test_training(shells: Shells) -> None:
    click_log(shells.folder / "clicks.jsonl", 500)
    train, *others = commands_for("docs/training.md", f"{ALONE}::test_training")
    assert train.startswith("model-training train")
    shells.run(train)
    assert (shells.folder / "models/ctr/1/saved_model.pb").is_file()
    shutil.copytree(shells.folder / "models/ctr/1", shells.folder / "models/ctr/7")
    assert others
    for command in others:
        assert shells.run(command)


def test_the_objects_are_rendered(shells: Shells) -> None:
    require_program("kubectl")
    (command,) = commands_for("docs/tutorials/production.md", f"{ALONE}::test_the_objects_are_rendered")
    kinds = {found["kind"] for found in yaml.safe_load_all(shells.run(command))}
    assert {"StatefulSet", "NetworkPolicy", "ScaledObject"} <= kinds
