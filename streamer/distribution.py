"""The installed distribution: its version, its extras, and lines of errors. Pure."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

NAME = "ctr-streamer"
EXTRAS: Mapping[str, str] = {
    "attrs": "registry",
    "authlib": "registry",
    "cachetools": "registry",
    "certifi": "registry",
    "confluent_kafka": "registry",
    "httpx2": "registry",
    "opentelemetry": "tracing",
    "pandas": "training",
    "py4j": "training",
    "pyarrow": "training",
    "pyspark": "training",
    "sklearn": "training",
    "tensorflow": "training",
}
"""The extra of each optional module that the two packages import."""


def installed_version() -> str:
    """The version of the distribution; `unknown` where only its files are."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"


def show_version(asked: bool) -> None:
    """Prints the version and ends, if asked: the option `--version` of a program."""
    if asked:
        typer.echo(f"{NAME} {installed_version()}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")]
"""The option of a program."""


def missing_extra(error: ImportError) -> str | None:
    """The line for a person who has not installed an extra; None for any other error."""
    module = (error.name or "").partition(".")[0]
    # Another error says that an installed package has another version.
    if not isinstance(error, ModuleNotFoundError) or module not in EXTRAS:
        return None
    return f"{module} is not installed: pip install '{NAME}[{EXTRAS[module]}]'"


def repairable(error: ImportError | OSError) -> tuple[str, int] | None:
    """The line for a person, and the exit status, for an unexpected error; None: a defect."""
    if isinstance(error, OSError):
        return system_error(error)
    line = missing_extra(error)
    return None if line is None else (line, 2)


def system_error(error: OSError) -> tuple[str, int]:
    """The line for an error that no command expects, and the exit status: 2 for a file, else 1.

    `TimeoutError` and errors of connections often have no text; they get their class.
    """
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}", 2
    return str(error) or repr(error), 1
