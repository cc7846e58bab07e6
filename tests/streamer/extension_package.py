"""Packages with entry points, written to a folder instead of being installed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamer.extensions import load
from streamer.features.transforms import transform_of


@contextmanager
def installed(
    folder: Path, code: str, entries: Mapping[str, Mapping[str, str]], name: str = "example"
) -> Iterator[str]:
    """A package of one module with this code, and its names by group and entry point; yields the module's name.

    Each folder has a module of its own, because Python imports a name once.
    """
    module = f"{name}_{abs(hash(folder))}"
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines: list[str] = []
    for group, names in entries.items():
        lines += [f"[{group}]", *(f"{entry} = {module}:{what}" for entry, what in names.items())]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        try:
            yield module
        finally:
            load.cache_clear()
            transform_of.cache_clear()
