"""`make setup` compiles `native/` where there is cargo, and needs none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT

TIMEOUT_S = 60.0
WITHOUT = "no Rust compiler (cargo): the scorer runs in pure Python\n"


class Checkout:
    """A folder with the Makefile, `native/`, and an environment whose programs only write down how they are called."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, root / "calls"
        shutil.copy(ROOT / "Makefile", root)
        shutil.copytree(ROOT / "native", root / "native", ignore=shutil.ignore_patterns("target"), symlinks=True)
        (root / ".venv" / "bin").mkdir(parents=True)
        (root / "bin").mkdir()
        self.program(".venv/bin/uv", 'echo "$@" >> calls')
        for name in ("requirements/dev.txt", "pyproject.toml"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).touch()
        (root / ".venv" / ".packages").touch()

    def program(self, name: str, body: str) -> None:
        """Writes a program in shell."""
        (self.root / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.root / name).chmod(0o755)

    def setup(self) -> str:
        """Output of `make setup` with a PATH that has the programs in `bin/` and no others but the system's."""
        done = subprocess.run(
            ("make", "--silent", "setup"),
            cwd=self.root,
            env={"PATH": f"{self.root}/bin:{self.root}/tools"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def builds(self) -> int:
        """How often `native/` was installed."""
        return self.calls.read_text().count("pip install") if self.calls.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh", "touch"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    return Checkout(tmp_path)


def test_without_cargo_one_line_says_so_once(checkout: Checkout) -> None:
    assert checkout.setup() == WITHOUT
    assert checkout.setup() == ""
    assert checkout.builds() == 0


def test_it_is_built_once_and_after_a_change(checkout: Checkout) -> None:
    checkout.program("bin/cargo", "")
    assert checkout.setup().startswith("compiling native/")
    assert checkout.setup() == ""
    assert checkout.builds() == 1
    later = checkout.root.stat().st_mtime + 10
    os.utime(checkout.root / "native" / "src" / "lib.rs", (later, later))
    assert checkout.setup().startswith("compiling native/")
    assert checkout.builds() == 2


def test_it_is_built_when_cargo_comes_later(checkout: Checkout) -> None:
    assert checkout.setup() == WITHOUT
    checkout.program("bin/cargo", "")
    assert checkout.setup().startswith("compiling native/")


def test_without_cargo_no_module_of_older_sources_is_left(checkout: Checkout) -> None:
    checkout.program("bin/cargo", "")
    assert checkout.setup().startswith("compiling native/")
    (checkout.root / "bin" / "cargo").unlink()
    assert checkout.setup() == WITHOUT
    assert "pip uninstall" in checkout.calls.read_text()


def test_a_build_that_fails_stops_nothing_and_leaves_no_old_module(checkout: Checkout) -> None:
    checkout.program("bin/cargo", "")
    checkout.program(".venv/bin/uv", 'echo "$@" >> calls; [ "$2" = uninstall ]')
    assert "native/ cannot be compiled, see .venv/native.log: the scorer runs in pure Python" in checkout.setup()
    assert "pip uninstall" in checkout.calls.read_text()
    assert checkout.setup() == "", "it is not tried again by itself"
