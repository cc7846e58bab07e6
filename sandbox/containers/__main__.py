"""Builds, starts, checks and removes the containers of `docker-compose.yml`."""

import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import orjson
import typer
from rich.console import Console

from sandbox.containers.engine import ROOT, Compose, Engine
from sandbox.containers.images import Image, prepare
from sandbox.containers.phases import check_ads, check_file, check_update
from sandbox.containers.plan import services_of
from sandbox.containers.project import Project
from sandbox.containers.report import table
from sandbox.containers.requirements import missing
from sandbox.errors import SandboxError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Phase(StrEnum):
    """The parts of the test."""

    FILE = "file"
    ADS = "ads"
    UPDATE = "update"


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


@app.command()
def main(
    phase: Annotated[
        list[Phase] | None, typer.Option(help="file: the file as it is; ads: ads by id; update: a rolling update.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Images, containers and volumes.")] = ROOT / "build" / "containers",
) -> None:
    """Run the compose file in containers and check them.

    Exit status: 0 every check holds, 1 one does not, 2 the machine cannot run containers or a step failed.
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)
    reason = missing()
    if reason is not None:
        console.print(f"containers cannot run here: {reason}", style="red", markup=False)
        raise typer.Exit(2)
    signal.signal(signal.SIGTERM, _stop)
    engine = Engine(folder.absolute())
    try:
        failed = _run(console, engine, phase or list(Phase))
    except SandboxError as error:
        console.print(f"containers: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        console.print("interrupted; the containers are removed", style="red")
        raise typer.Exit(130) from None
    raise typer.Exit(1 if failed else 0)


def _run(console: Console, engine: Engine, phases: Sequence[Phase]) -> bool:
    """Runs the phases and prints the table; returns whether a check failed."""
    engine.configure()
    with engine.serving():
        compose = Compose(engine)
        services = services_of(compose.canonical())
        console.print("images ...", style="bold")
        images = prepare(engine, services.values())
        for image in images.values():
            console.print(f"  {_described(image)}", markup=False)
        for service in services.values():
            if service.image not in images:
                console.print(f"  {service.image}: not run, no registry and no stand-in", markup=False)
        runnable = {name: service for name, service in services.items() if service.image in images}
        project = Project(engine, compose, runnable)
        project.remove(volumes=True)  # what an earlier run may have left
        try:
            if Phase.FILE in phases:
                check_file(console, project)
            if Phase.ADS in phases:
                check_ads(console, project)
            if Phase.UPDATE in phases:
                check_update(console, project)
        finally:
            project.remove(volumes=True)
            console.print(table(services, images, project.measured, project.checks))
            (engine.folder / "report.json").write_bytes(
                orjson.dumps([images, project.measured, project.checks], option=orjson.OPT_INDENT_2)
            )
    return any(check.fault for check in project.checks)


def _described(image: Image) -> str:
    kind = f"STAND-IN: {image.stand_in}" if image.stand_in else "the image itself"
    above = f", {(image.size - image.base_size) / 1e6:.0f} MB above its base" if image.base_size else ""
    return f"{image.name}: {kind}; {image.size / 1e6:.0f} MB{above}"


if __name__ == "__main__":
    app()
