"""Pages of the site that are not files in `docs/`: the reference, and pages of the root.

`make docs` runs it as the hooks of mkdocs. The reference is made from the code. Links between pages are those of a code
host; the hooks change them where a page has another place on the site. A link to a file that is no page becomes text.
"""

import ast
import inspect
import posixpath
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from prometheus_client import CollectorRegistry

import model_training.commands
import streamer.commands
from model_training import errors as training_errors
from streamer import errors as scorer_errors
from streamer.metrics import READY, Metrics, SupervisorMetrics

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
MERMAID = ROOT / "build/mermaid/package/dist/mermaid.min.js"
"""Draws the diagrams in the browser; `make docs` gets it from npm. Without it a page shows their text."""
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
OWN_DATA = "Your own data in ten minutes"
"""A section of the README that has a page of its own on the site."""
APPS = {"streamer": streamer.commands.app, "model-training": model_training.commands.app}
PACKAGES = (
    "streamer.types",
    "streamer.features",
    "streamer.extensions",
    "streamer.serving.transport",
    "streamer.serving.replies",
    "streamer.testing",
)
"""What programs and tests of other projects may import."""
_FENCE_OR_LINK = re.compile(r"^```.*?^```$|(!?\[[^\]]*\])\(([^()\s]+)\)", re.MULTILINE | re.DOTALL)
_OWN_DATA = re.compile(rf"^## {OWN_DATA}\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)

Rows = Iterable[tuple[str, ...]]


def table(head: tuple[str, ...], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    cells = ((" ".join(cell.replace("|", "\\|").split()) for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def metrics_page() -> str:
    """Every metric of a worker and of a supervisor: name, kind, labels and meaning."""
    worker, supervisor = (
        table(("metric", "kind", "labels", "meaning"), _metrics(each.registry))
        for each in (Metrics(), SupervisorMetrics())
    )
    return (
        "# Metrics\n\nThe names as Prometheus stores them; a histogram also has `_bucket`, `_sum` and `_count`. "
        "Times are in seconds, sizes in bytes. [Operations](../operations.md#metrics-by-question) has them by question."
        f"\n\n`{READY[0]}`: {READY[1]}.\n\n"
        f"## Worker\n\n{worker}\n## Supervisor\n\n{supervisor}"
    )


def _metrics(registry: CollectorRegistry) -> Iterator[tuple[str, ...]]:
    labels = {}
    for name in registry._names_to_collectors:  # noqa: SLF001  nothing public tells the labels of a metric without samples
        labels[name] = getattr(registry._names_to_collectors[name], "_labelnames", ())  # noqa: SLF001
    for metric in sorted(registry.collect(), key=lambda each: each.name):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        found = labels.get(metric.name) or getattr(metric, "_labelnames", None) or ()
        yield f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in found), metric.documentation


def errors_page() -> str:
    """The errors of both programs, with the next action."""
    text = (
        "# Errors\n\nA command that fails prints one line and ends with a status: 1, the same command can succeed "
        "later (no broker answers, a lost process); 2, it would fail in the same way again (a setting, a spec, an "
        "argument, a missing extra). Programs that import the packages get these exceptions; *next* is the action.\n"
    )
    for module in (scorer_errors, training_errors):
        kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
        rows = ((f"`{kind.__name__}`", f"`{kind.__bases__[0].__name__}`", *_meaning_and_next(kind)) for kind in kinds)
        text += f"\n## {module.__name__}\n\n{table(('error', 'is a', 'meaning', 'next'), rows)}"
    return text


def _meaning_and_next(kind: type) -> tuple[str, str]:
    meaning, _, following = (inspect.getdoc(kind) or "").partition("Next: ")
    return meaning, following


def commands_page() -> str:
    """Every command of both programs, with its arguments and options."""
    text = "# Commands\n\n`--install-completion` sets up completion of the shell, `--help` prints what is here.\n"
    for name, app in APPS.items():
        text += "".join(_commands(name, typer.main.get_command(app)))
    return text


def _commands(name: str, command: Any) -> Iterator[str]:
    yield f"\n{'###' if ' ' in name else '##'} {name}\n\n{inspect.cleandoc(command.help or '')}\n"
    context = command.context_class(command, info_name=name)
    records = [each.get_help_record(context) for each in command.params if "completion" not in each.name]
    rows = [(f"`{' '.join(names.split())}`", meaning) for names, meaning in filter(None, records)]
    if rows:
        yield "\n" + table(("argument or option", "meaning"), rows)
    for child, below in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {child}", below)


def python_page() -> str:
    """The classes and functions of the public packages, with their docstrings."""
    text = "# Python\n\nThe packages that other projects may import. Everything else may change in any version.\n"
    for package in PACKAGES:
        module = import_module(package)
        text += f"\n## {package}\n\n{inspect.getdoc(module)}\n"
        exported = getattr(module, "__all__", None)
        places = {str(getattr(getattr(module, name), "__module__", package)) for name in exported or ()}
        files = [_file(place) for place in sorted(places) if place.startswith("streamer.")] or _files(_file(package))
        for file in files:
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and _is_public(node.name, exported):
                    text += "".join(_described(node, file))
    return text


def _is_public(name: str, exported: list[str] | None) -> bool:
    return not name.startswith("_") if exported is None else name in exported


def _file(module: str) -> Path:
    return Path(str(import_module(module).__file__))


def _files(file: Path) -> list[Path]:
    """The modules of a package without `__all__`, or the one of a module."""
    return (
        sorted(path for path in file.parent.rglob("*.py") if path.stem != "__init__")
        if file.stem == "__init__"
        else [file]
    )


def _described(node: ast.ClassDef | ast.FunctionDef, file: Path) -> Iterator[str]:
    place = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    yield f"\n### {node.name}\n\n```python\nfrom {place} import {node.name}\n```\n\n{_text(node)}\n"
    if isinstance(node, ast.FunctionDef):
        yield f"\n```python\n{_signature(node)}\n```\n"
        return
    parts = [f"\n- `{text}`" + (f": {meaning}" if meaning else "") for text, meaning in _parts(node)]
    yield "\nFields and methods:\n" + "".join(parts) + "\n" if parts else ""


def _parts(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The public fields and methods of a class, each with its docstring in one line."""
    for part, below in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if isinstance(part, ast.AnnAssign) and not ast.unparse(part.target).startswith("_"):
            described = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            yield ast.unparse(part), " ".join(ast.literal_eval(ast.unparse(below)).split()) if described else ""
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and re.match("[^_]|__init__", part.name):
            yield _signature(part), " ".join((ast.get_docstring(part) or "").split())


def _text(node: ast.ClassDef | ast.FunctionDef) -> str:
    """The docstring, with its indented lines (`Attributes:`) as a list."""
    text = re.sub(r"^(\w+:)\n(?= {4}\S)", r"\1\n\n", ast.get_docstring(node) or "", flags=re.MULTILINE)
    return re.sub(r"^ {4}(?=\S)", "- ", text, flags=re.MULTILINE)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    wait = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{wait}{node.name}({ast.unparse(node.args)}){returns}"


def generated() -> dict[str, str]:
    """The pages that are not files below `docs/`: their address on the site, and their Markdown."""
    pages = {uri: (ROOT / name).read_text(encoding="utf-8") for name, uri in ROOT_PAGES.items()}
    tutorial = _OWN_DATA.search(pages["index.md"])
    assert tutorial, f"README.md has no section {OWN_DATA!r}"
    short = f"## {OWN_DATA}\n\n[From a JSON of your own to a scored request](#{_anchor(OWN_DATA)}).\n\n"
    pages["index.md"] = f"---\nhide: [navigation]\n---\n{pages['index.md'].replace(tutorial[0], short)}"
    pages["tutorials/own-data.md"] = f"# {OWN_DATA}\n{tutorial[1]}"
    reference = {"commands": commands_page, "metrics": metrics_page, "errors": errors_page, "python": python_page}
    return pages | {f"reference/{name}.md": page() for name, page in reference.items()}


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def with_links_of_the_site(markdown: str, uri: str) -> str:
    """The text of a page with the links of the site."""
    names = {page: name for name, page in ROOT_PAGES.items()} | {"tutorials/own-data.md": "README.md"}
    source = names.get(uri, f"docs/{uri}")

    def link(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        if not text or re.match(r"[a-z]+:", target):
            return found[0]
        name, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name)) if name else source
        if path == "README.md" and anchor == _anchor(OWN_DATA):
            page, mark, anchor = "tutorials/own-data.md", "", ""
        elif path in ROOT_PAGES:
            page = ROOT_PAGES[path]
        elif path.startswith("docs/"):
            page = path.removeprefix("docs/")
        else:
            return text.strip("![]")
        return f"{text}({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{mark}{anchor})"

    return _FENCE_OR_LINK.sub(link, markdown)


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Headings get the anchors of a code host; diagrams are drawn if their program is here."""
    from pymdownx.slugs import slugify  # noqa: PLC0415
    from pymdownx.superfences import fence_code_format  # noqa: PLC0415

    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    if MERMAID.exists():
        fences = [{"name": "mermaid", "class": "mermaid", "format": fence_code_format}]
        config.mdx_configs["pymdownx.superfences"] = {"custom_fences": fences}
        config.extra_javascript.append("mermaid.min.js")
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Adds the generated pages."""
    from mkdocs.structure.files import File  # noqa: PLC0415

    for uri, text in generated().items():
        files.append(File.generated(config, uri, content=text))
    if MERMAID.exists():
        files.append(File.generated(config, "mermaid.min.js", abs_src_path=str(MERMAID)))
    return files


def on_page_markdown(markdown: str, page: "Page", **_: object) -> str:
    """The text of a page with the links of the site."""
    return with_links_of_the_site(markdown, page.file.src_uri)
