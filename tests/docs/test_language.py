"""Plain language, short files and described packages: rules that hold for every file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.worked_examples import ROOT

# "share of late answers" and "is well below" are plain English.
_HARD = re.compile(
    r"\b(whoever|of late(?! (?:answers?|replies|requests?|records?|rows)\b)|for ever|left alone"
    r"|is well(?!-| (?:above|below|known|defined|tested|within)\b)|another story"
    r"|wait(?:s|ed|ing)? for company|by turns)\b",
    re.IGNORECASE,
)
# A sentence may continue on the next line of a comment, of a string or of a page.
_LINE_BREAK = re.compile(r'\s*"?\n\s*f?(?:#|"|>)?\s*')
_EXAMPLES = re.compile(r"<!-- examples of language -->.*?<!-- end -->", re.DOTALL)
_FOLDERS = ("streamer", "model_training", "sandbox", "benchmarks", "clients", "docs", "configs", "deploy")
_TEXTS = {".py", ".md", ".yaml", ".yml", ".json", ".config", ".java", ".go", ".js"}
_PRODUCT = ("streamer", "model_training", "sandbox", "benchmarks", "clients", "docs", "deploy")
MAX_LINES = 300
MAX_FIRST_LINE = 90


def _texts() -> Iterator[Path]:
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "docker-compose.yml"))
    for folder in _FOLDERS:
        yield from sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in _TEXTS)


def hard_words(text: str) -> list[str]:
    """The words in `text` that are hard to read, in lower case."""
    text = _LINE_BREAK.sub(" ", _EXAMPLES.sub("", text))
    return [found[0].lower() for found in _HARD.finditer(text)]


@pytest.mark.parametrize("path", list(_texts()), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_hard_words(path: Path) -> None:
    assert hard_words(path.read_text(encoding="utf-8")) == []


def test_hard_words_are_found_across_lines() -> None:
    assert hard_words("# the mean of the calls of\n    # late, for\n# ever") == ["of late", "for ever"]
    assert hard_words('"a server is left "\n    "alone"') == ["left alone"]
    assert hard_words("> Whoever\n> waits for\n> company") == ["whoever", "waits for company"]
    assert hard_words("the share of late answers; it is well-maintained; it is well below; forever") == []
    assert hard_words("<!-- examples of language -->\n| whoever | |\n<!-- end -->\nis well") == ["is well"]


def test_no_file_outside_the_tests_is_long() -> None:
    files = [path for folder in _PRODUCT for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    files = [path for path in files if not path.name.endswith("_pb2.py")]  # generated
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def long_first_lines(source: str) -> list[str]:
    """The first lines of docstrings in `source` that are longer than `MAX_FIRST_LINE`."""
    described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, described)]
    return [first for first in (text.partition("\n")[0] for text in texts) if len(first) > MAX_FIRST_LINE]


@pytest.mark.parametrize(
    "folder", ["streamer", "model_training", "sandbox", "benchmarks", "clients", "docs", "examples"]
)
def test_the_first_line_of_a_docstring_is_short(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {str(path.relative_to(ROOT)): long_first_lines(path.read_text(encoding="utf-8")) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_long_first_lines_are_found_at_every_depth() -> None:
    most, more = "x" * MAX_FIRST_LINE, "y" * (MAX_FIRST_LINE + 1)
    source = f'class A:\n    """{most}\n\n    {more}\n    """\n    async def f(self):\n        """{more}"""\n'
    assert long_first_lines(source) == [more]


@pytest.mark.parametrize("package", ["streamer", "model_training", "sandbox"])
def test_every_package_says_what_it_is_for(package: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / package).rglob("__init__.py"))
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
