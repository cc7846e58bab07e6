"""`model-training coverage`: the features that have a value, and how often."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from model_training.commands.output import AsJson, console, fail_clearly, print_json
from model_training.data.coverage import COVERAGE, FeatureCoverage, read_coverage, warnings_of
from model_training.errors import DataError

_ROWS = 12


def coverage(
    records: Annotated[Path, typer.Argument(help="Folder that `prepare` made, or of encoded records.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Shows in which share of the rows or requests each feature has a value, the worst first."""
    with fail_clearly():
        found = read_coverage(records)
        if not found:
            raise DataError(
                f"{records / COVERAGE}: does not exist or is empty: an older program made this folder, or it is made"
                " of a feature log, which has no values"
            )
        if as_json:
            print_json({name: each.content() for name, each in found.items()})
            return
        print_coverage(found, rows=len(found))


def print_coverage(found: Mapping[str, FeatureCoverage], *, rows: int = _ROWS) -> None:
    """Prints the features that lack values, the worst first, and warnings.

    A warning names a feature that never has a value. At most `rows` features are in the table.
    """
    if not found:
        return
    lacking = sorted((item for item in found.items() if item[1].share < 1), key=lambda item: item[1].share)
    if lacking:
        table = Table(*(Column(title, overflow="fold") for title in ("feature", "path", "has a value in")))
        for name, each in lacking[:rows]:
            table.add_row(name, each.path, f"{_share(each)} of {each.seen:,} {each.unit}")
        console.print(table)
    if more := lacking[rows:]:
        console.print(f"{len(more)} other features have one in {_share(more[0][1])} and more")
    if whole := len(found) - len(lacking):
        console.print(f"{whole} features always have a value")
    for text in warnings_of(found):
        console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


def _share(found: FeatureCoverage) -> str:
    """A share that is neither 0 nor 100 % is not rounded to one of them."""
    percent = 100 * found.share
    return f"{percent:.1f} %" if 0.05 <= percent < 99.95 else f"{percent:.3g} %" if found.present else "0 %"
