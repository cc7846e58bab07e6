"""`model-training collisions`: the values that share a bucket, by feature."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from model_training.commands.output import AsJson, console, fail_clearly, print_json

if TYPE_CHECKING:
    from model_training.data.collisions import Collisions


def collisions(
    prepared: Annotated[Path, typer.Argument(help="Folder that `prepare` made.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Shows how many values of each feature share a bucket, and the share of affected rows."""
    with fail_clearly():
        from model_training.data.collisions import read_collisions  # noqa: PLC0415

        found = read_collisions(prepared)
        if as_json:
            print_json({name: each.content() for name, each in found.items()})
            return
        print_collisions(found)


def print_collisions(found: Mapping[str, "Collisions"]) -> None:
    """Prints a table of the features, the most affected first."""
    table = Table("feature", *(name for name in ("buckets", "values", "that share a bucket", "rows", "outnumbered")))
    for name, each in sorted(found.items(), key=lambda item: -item[1].row_share):
        shares = (f"{share:.2%}" for share in (each.value_share, each.row_share, each.outnumbered_share))
        table.add_row(name, f"{each.buckets:,}", f"{each.values:,}", *shares)
    console.print(table)
