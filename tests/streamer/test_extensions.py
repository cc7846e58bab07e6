"""An extension is found by its name; each fault of one is a single line that names it."""

from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.extensions import load
from tests.streamer.extension_package import installed

GROUP = "ctr_streamer.transforms"


def test_an_extension_is_found_once(tmp_path: Path) -> None:
    code = "class Lower:\n    version = 1\n    def __call__(self, value): return value.lower()\nlower = Lower()"
    with installed(tmp_path, code, {GROUP: {"lower": "lower"}}):
        assert load(GROUP, "lower")("A") == "a"
        assert load(GROUP, "lower") is load(GROUP, "lower")


def test_an_unknown_name_lists_those_that_are_installed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ctr_streamer.transforms: 'lower' is not installed; installed: none$"):
        load(GROUP, "lower")
    with (
        installed(tmp_path, "", {GROUP: {"b": "b", "a": "a"}}),
        pytest.raises(ConfigError, match=r"'lower' is not installed; installed: a, b$"),
    ):
        load(GROUP, "lower")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError: No module named"),
        ("raise RuntimeError('two\\nlines')", "cannot be imported: RuntimeError: two lines"),
        ("other = 1", "cannot be imported: AttributeError: module"),
        ("def lower(value): return value", "has no version"),
        ("class lower_class:\n    version = 1\nlower = lower_class()", "has no __call__"),
    ],
)
def test_a_broken_one_is_one_line_with_its_package(tmp_path: Path, code: str, reason: str) -> None:
    with installed(tmp_path, code, {GROUP: {"lower": "lower"}}), pytest.raises(ConfigError) as caught:
        load(GROUP, "lower")
    line = str(caught.value)
    assert line.startswith("ctr_streamer.transforms: 'lower' of package example")
    assert reason in line
    assert "\n" not in line


def test_a_name_of_two_packages_is_rejected(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with (
        installed(one, "", {GROUP: {"lower": "lower"}}),
        installed(two, "", {GROUP: {"lower": "lower"}}, "second"),
        pytest.raises(ConfigError, match="'lower' is in several packages: example, second; uninstall one"),
    ):
        load(GROUP, "lower")
