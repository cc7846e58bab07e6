"""Draws the packages of `docs/architecture.md` from the imports of the code.

`make drawings` runs it. An arrow means "imports". An import that follows from other arrows is left out (transitive
reduction).
"""

import re
import sys
import tomllib
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
_BLOCK = re.compile(r"(<!-- (packages|layers) of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Imports = Mapping[str, set[str]]


def imports_of(package: str) -> Imports:
    """The parts directly below `package`, each with those of them that it imports.

    A part is a subpackage or a module.
    """
    graph = grimp.build_graph(package, cache_dir=None)
    children = graph.find_children(package)
    for child in children:
        if graph.find_children(child):
            graph.squash_module(child)
    names = {child: child.removeprefix(f"{package}.") for child in children if not child.endswith(".__main__")}
    return {
        name: {names[other] for other in graph.find_modules_directly_imported_by(child) & names.keys()} - {name}
        for child, name in names.items()
    }


def reduced(imports: Imports) -> Imports:
    """The transitive reduction of `imports`: without those that a chain of others implies.

    Raises:
        CycleError: the imports have a cycle; its second argument names the members.
    """
    below: dict[str, set[str]] = {}
    kept: dict[str, set[str]] = {}
    for name in TopologicalSorter(imports).static_order():
        implied = {lower for other in imports[name] for lower in below[other]}
        below[name] = imports[name] | implied
        kept[name] = imports[name] - implied
    return kept


def packages(package: str) -> str:
    """A Mermaid flowchart of `package`: boxes are packages, rounded boxes are modules."""
    imports = reduced(imports_of(package))
    lines = ["```mermaid", "flowchart TB"]
    for name in sorted(imports):
        is_package = (ROOT / package / name).is_dir()
        lines.append(f'    {name}["{name}/"]' if is_package else f'    {name}("{name}.py")')
    for name, others in sorted(imports.items()):
        if others:
            targets = " & ".join(sorted(others))
            lines.append(f"    {name} --> {targets}")
    return "\n".join([*lines, "```", ""])


def layers(package: str) -> str:
    """The lines of the import contract of `package`, highest first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    lines = next(c["layers"] for c in contracts if c["type"] == "layers" and c["containers"] == [package])
    return "\n".join(["```text", *lines, "```", ""])


def drawn(page: str) -> str:
    """`page` with each marked block drawn anew."""
    draw = {"packages": packages, "layers": layers}
    return _BLOCK.sub(lambda found: found[1] + draw[found[2]](found[3]) + found[4], page)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # else an installed copy of the packages would be drawn
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
