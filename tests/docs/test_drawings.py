"""The pictures of the packages show the imports of the code as it is."""

import runpy
from collections.abc import Callable, Mapping
from graphlib import CycleError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docs.worked_examples import ROOT

Imports = Mapping[str, set[str]]

PAGE = ROOT / "docs/architecture.md"
SCRIPT = runpy.run_path(str(ROOT / "docs/scripts/draw_packages.py"))
drawn: Callable[[str], str] = SCRIPT["drawn"]
packages: Callable[[str], str] = SCRIPT["packages"]
reduced: Callable[[Imports], Imports] = SCRIPT["reduced"]
imports_of: Callable[[str], Imports] = SCRIPT["imports_of"]


def test_the_page_has_the_pictures_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert drawn(page) == page, "make drawings"


def test_every_package_of_the_scorer_is_a_box() -> None:
    picture = packages("streamer")
    for path in (ROOT / "streamer").iterdir():
        if path.suffix == ".py" and not path.stem.startswith("__"):
            assert f'{path.stem}("{path.name}")' in picture
        elif (path / "__init__.py").is_file():
            assert f'{path.name}["{path.name}/"]' in picture


def test_a_changed_import_changes_the_picture() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert drawn(page.replace("    codec --> ", "    codec --> service & ")) == page


def test_imports_are_those_of_the_files() -> None:
    imports = imports_of("streamer")
    assert "features" in imports["codec"]
    assert imports["deadline"] == set()
    assert all(name not in others for name, others in imports.items())


def _reachable(imports: Imports, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting += new
    return found


@given(st.lists(st.sets(st.integers(0, 7)), max_size=8))
def test_a_reduction_keeps_what_can_be_reached_and_no_arrow_more(rows: list[set[int]]) -> None:
    imports = {f"m{i}": {f"m{j}" for j in row if j < i} for i, row in enumerate(rows)}
    result = reduced(imports)
    for name, others in imports.items():
        assert result[name] <= others
        assert _reachable(result, name) == _reachable(imports, name)
        for other in result[name]:
            without = {**result, name: result[name] - {other}}
            assert other not in _reachable(without, name)


def test_a_cycle_is_an_error() -> None:
    with pytest.raises(CycleError, match="cycle"):
        reduced({"a": {"b"}, "b": {"a"}})
