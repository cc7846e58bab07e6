"""The site of the documents is complete, builds without a warning, and loads nothing from other hosts."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import getmembers, isclass
from pathlib import Path

import pytest
import yaml
from typer import Typer

from model_training import errors as training_errors
from streamer import errors as scorer_errors
from streamer.metrics import Metrics, SupervisorMetrics
from tests.docs.test_pages import PAGES
from tests.docs.worked_examples import ROOT

SITE = runpy.run_path(str(ROOT / "docs/scripts/site_pages.py"))
generated: Callable[[], dict[str, str]] = SITE["generated"]
with_links_of_the_site: Callable[[str, str], str] = SITE["with_links_of_the_site"]
_EXTERNAL = re.compile(r"\]\(([a-z]+:[^)\s]*)\)")
_LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return generated()


def _in_navigation(part: object) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _in_navigation(child)


def test_each_page_is_in_the_navigation_once(pages: dict[str, str]) -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    files = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(_in_navigation(config["nav"])) == sorted([*files, *pages])


def test_each_metric_is_in_the_reference(pages: dict[str, str]) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ \| [^|]* \| (.*) \|$", pages["reference/metrics.md"], re.MULTILINE))
    for registry in (Metrics().registry, SupervisorMetrics().registry):
        for metric in registry.collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            assert rows[name], name


def test_labels_of_metrics_are_in_the_reference(pages: dict[str, str]) -> None:
    text = pages["reference/metrics.md"]
    assert "| `streamer_sink_answers_total` | counter | `status` |" in text
    assert "| `streamer_stage_seconds` | histogram | `stage` |" in text
    assert "| `streamer_features_present_total` | counter | `model`, `feature` |" in text


def _names(app: Typer, prefix: str) -> Iterator[str]:
    for command in app.registered_commands:
        assert command.callback
        yield f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}"
    for group in app.registered_groups:
        assert group.typer_instance
        yield from _names(group.typer_instance, f"{prefix} {group.name}")


def test_each_command_is_in_the_reference(pages: dict[str, str]) -> None:
    text = pages["reference/commands.md"]
    names = [name for program, app in SITE["APPS"].items() for name in _names(app, program)]
    assert len(names) > 30
    for name in names:
        assert re.search(rf"^### {name}\n\n\S", text, re.MULTILINE), name
    assert "| `--wait" in text


def test_each_error_is_in_the_reference(pages: dict[str, str]) -> None:
    for module in (scorer_errors, training_errors):
        for name, kind in getmembers(module, isclass):
            if kind.__module__ == module.__name__:
                assert f"| `{name}` |" in pages["reference/errors.md"]


def test_public_classes_have_their_fields_and_methods_in_the_reference(pages: dict[str, str]) -> None:
    text = pages["reference/python.md"]
    for heading in ("Record", "BidRequest", "Encoder", "FeatureSpec", "VirtualServers", "run_virtual"):
        assert f"### {heading}\n" in text
    assert "- `size(self) -> int`: Number of candidates." in text


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("index.md", "[a](docs/http.md#b)", "[a](http.md#b)"),
        ("index.md", "![a](docs/demo.png)", "![a](demo.png)"),
        ("index.md", "[a](#your-own-data-in-ten-minutes)", "[a](tutorials/own-data.md)"),
        ("tutorials/own-data.md", "[a](docs/features.md)", "[a](../features.md)"),
        ("http.md", "[a](../README.md#b)", "[a](index.md#b)"),
        ("http.md", "[a](../streamer/formats/ctr.proto)", "a"),
        ("http.md", "[a](https://kafka.apache.org/)", "[a](https://kafka.apache.org/)"),
        ("http.md", "```text\n[a](../LICENSE)\n```", "```text\n[a](../LICENSE)\n```"),
    ],
)
def test_links_lead_to_the_places_of_the_site(page: str, link: str, on_the_site: str) -> None:
    assert with_links_of_the_site(link, page) == on_the_site


def test_links_to_other_sites_have_a_host() -> None:
    links = {link for page in PAGES for link in _EXTERNAL.findall(page.read_text(encoding="utf-8"))}
    assert len(links) > 10
    assert [link for link in links if not re.match(r"https?://[\w-]+(\.[\w-]+)+(:\d+)?(/|$)", link)] == []


def _built(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(site)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_builds_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    result = _built(ROOT / "mkdocs.yml", tmp_path)
    assert result.returncode == 0, result.stderr
    found = sorted(tmp_path.rglob("*.html"))
    assert len(found) > 50
    for page in found:
        text = page.read_text(encoding="utf-8")
        assert _LOADED.findall(text) == [], page.name
        assert "<p>| " not in text, f"{page.name}: a table without an empty line before it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "warning"),
    [("#there", None), ("#nowhere", "no such anchor"), ("lost.md", "not found"), ("/a.md", "absolute")],
)
def test_a_link_that_leads_nowhere_ends_the_build(link: str, warning: str | None, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# There\n\n[a]({link})\n", encoding="utf-8")
    config = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": "docs",
        "hooks": [],
        "extra_css": [],
        "nav": ["index.md"],
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = _built(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert result.returncode == (1 if warning else 0), result.stderr
    assert warning is None or warning in result.stderr
