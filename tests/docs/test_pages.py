"""What the pages name exists: links, files, settings, metrics and make targets."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from streamer.metrics import Metrics, SupervisorMetrics
from streamer.settings import Settings
from tests.docs.worked_examples import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENTRY = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md"]
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"^(?:streamer|model_training|sandbox|benchmarks|tests|docs|configs|deploy)/[\w./-]*$")
_ANCHOR = re.compile(r'<a id="([^"]+)">')


def _named(page: Path) -> Path:
    return page.relative_to(ROOT)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page as GitHub makes them of its headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings)
    return {*slugs, *_ANCHOR.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", ENTRY, ids=_named)
def test_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").split("\n## Add a stage", 1)[0]
    paths = [name for name in _CODE.findall(_FENCE.sub("", text)) if _PATH.match(name)]
    assert paths
    assert [name for name in paths if not (ROOT / name).exists()] == []


def test_the_files_of_the_records_path_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    files = re.findall(r"<br>([\w/]+\.py)", text)
    assert len(files) >= 8
    assert [name for name in files if not (ROOT / "streamer" / name).is_file()] == []


def test_settings_and_metrics_of_the_entry_page_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    settings: set[str] = set()
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        settings |= {f"{section}.{name}" for name in field.annotation.model_fields}
    sections = {name.split(".")[0] for name in settings}
    named = [
        name for name in _CODE.findall(text) if re.fullmatch(r"[a-z_]+\.[a-z_]+", name) and not name.endswith(".py")
    ]
    assert [name for name in named if name.split(".")[0] in sections and name not in settings] == []
    both = (Metrics().registry, SupervisorMetrics().registry)
    samples = {metric.name for registry in both for metric in registry.collect()}
    metrics = [name.removesuffix("_total") for name in _CODE.findall(text) if re.fullmatch(r"streamer_\w+", name)]
    assert len(metrics) > 15
    assert [name for name in metrics if name not in samples] == []


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    used = re.findall(r"(?:^    |`)make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert [name for name in used if name not in targets] == []
