"""Each optional module has its extra, and the line that names it can be run as it is."""

import re
import tomllib
from importlib.metadata import packages_distributions

from streamer.distribution import EXTRAS, NAME, installed_version, missing_extra, repairable
from tests.docs.worked_examples import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = ("training", "tracing", "registry")


def test_every_package_of_an_extra_has_its_module_here() -> None:
    modules = packages_distributions()
    missing = []
    for extra in OPTIONAL:
        for requirement in PROJECT["optional-dependencies"][extra]:
            name = re.split(r"[\[<>=,]", requirement)[0]
            if not any(EXTRAS.get(module) == extra and name in found for module, found in modules.items()):
                missing.append(requirement)
    assert missing == []
    assert set(EXTRAS.values()) == set(OPTIONAL)


def test_the_line_names_the_extra() -> None:
    error = ModuleNotFoundError("No module named 'tensorflow.python'", name="tensorflow.python")
    assert missing_extra(error) == "tensorflow is not installed: pip install 'ctr-streamer[training]'"
    assert missing_extra(ModuleNotFoundError("No module named 'streamer.nowhere'", name="streamer.nowhere")) is None
    assert missing_extra(ImportError("cannot import name 'x' from 'pyarrow'", name="pyarrow")) is None


def test_a_person_can_repair_a_missing_extra_or_file() -> None:
    missing = ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    assert repairable(missing) == ("tensorflow is not installed: pip install 'ctr-streamer[training]'", 2)
    assert repairable(FileNotFoundError(2, "No such file", "a.yaml")) == ("a.yaml: No such file", 2)
    assert repairable(TimeoutError()) == ("TimeoutError()", 1)
    assert repairable(ImportError("cannot import name 'x' from 'pyarrow'", name="pyarrow")) is None


def test_the_version_is_that_of_the_project() -> None:
    assert PROJECT["name"] == NAME
    assert installed_version() == PROJECT["version"]
