"""`model-training prepare`: makes training data from a log, with Spark."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.table import Table

from model_training.commands.collisions import print_collisions
from model_training.commands.coverage import print_coverage
from model_training.commands.output import AsJson, console, fail_clearly, print_json
from model_training.config.preparation import PrepareConfig
from model_training.config.training import load_spec
from model_training.errors import ConfigError, DataError, in_a_line
from model_training.runtime import load_tensorflow

if TYPE_CHECKING:
    from model_training.data.prepared import Prepared
    from streamer.features import FeatureSpec


_AFFECTED = 0.01
"""Share of the rows from which on a feature's collisions are shown."""


def prepare(
    *,
    config: Annotated[Path, typer.Option(help="Preparation config: configs/prepare/*.yaml.")],
    output: Annotated[Path, typer.Option(help="Output folder.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an existing output folder.")] = False,
    spec: Annotated[
        Path | None,
        typer.Option(help="Feature spec instead of the config's: a file, or the folder of an exported version."),
    ] = None,
    master: Annotated[str, typer.Option(help="Spark master; ignored under spark-submit.")] = "local[2]",
    fitted_spec: Annotated[
        Path | None, typer.Option(help="JSON file for the spec with statistics of this log's numbers.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Makes training data from a log: labelled, split by time, encoded as in serving."""
    with fail_clearly():
        parsed = PrepareConfig.from_yaml(config)
        features = load_spec(parsed.spec) if spec is None else spec_of(spec)
        if fitted_spec is not None and parsed.is_encoded:
            raise ConfigError("--fitted-spec: a feature log has encoded rows, which have no values for statistics")
        if fitted_spec is not None and not fitted_spec.parent.is_dir():
            raise ConfigError(f"--fitted-spec: there is no folder {fitted_spec.parent}")
        # Starting Spark takes seconds; a wrong setting must fail before.
        from model_training.data.collisions import read_collisions  # noqa: PLC0415
        from model_training.data.coverage import read_coverage  # noqa: PLC0415
        from model_training.preparation.prepare import prepare as run  # noqa: PLC0415
        from model_training.preparation.session import spark_session  # noqa: PLC0415
        from model_training.preparation.statistics import STATISTICS, fitted  # noqa: PLC0415

        with spark_session(master) as spark:
            prepared = run(spark, parsed, features, output, overwrite=overwrite, allow_unread=spec is not None)
        statistics = orjson.loads((output / STATISTICS).read_bytes())
        coverage = read_coverage(output)
        _show(prepared, statistics)
        if affected := {name: each for name, each in read_collisions(output).items() if each.row_share >= _AFFECTED}:
            print_collisions(affected)
        print_coverage(coverage)
        if fitted_spec is not None:
            _write(fitted_spec, fitted(features, statistics).to_json() + "\n")
        if as_json:
            shares = {name: each.content() for name, each in coverage.items()}
            print_json({**_facts(prepared), "statistics": statistics, "coverage": shares})


def _write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.rename(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {in_a_line(error)}") from error


def spec_of(path: Path) -> "FeatureSpec":
    """The spec in a file, or that of the exported version in a folder; raises as their readers."""
    if not path.is_dir():
        return load_spec(path)
    load_tensorflow()
    from model_training.export.servable import Servable  # noqa: PLC0415

    return Servable.load(path).spec


def _facts(prepared: "Prepared") -> dict[str, object]:
    return {
        "rows": prepared.rows,
        "dropped": dict(prepared.dropped),
        "sampled_out": prepared.sampled_out,
        "counts": dict(prepared.counts),
        "splits": {
            name: {
                "examples": split.records.examples,
                "clicks": split.records.positives,
                "shards": len(split.records.shards),
            }
            for name, split in prepared.splits.items()
        },
    }


def _show(prepared: "Prepared", statistics: Mapping[str, Mapping[str, float]]) -> None:
    dropped = sum(prepared.dropped.values())
    console.print(f"{prepared.rows:,} rows, {dropped:,} dropped, {prepared.sampled_out:,} non-clicks sampled out")
    for name, count in [*prepared.dropped.items(), *prepared.counts.items()]:
        if count:
            console.print(f"  {name}: {count:,}")
    for feature, found in statistics.items():
        if not_finite := found["not_finite"]:
            console.print(f"  values of {feature!r} that are not finite, so they are missing: {not_finite:,}")
        if clipped := found.get("clipped_share"):
            console.print(f"  values of {feature!r} clipped for its mean and deviation: {clipped:.2%}")
    table = Table("split", "examples", "clicks", "shards")
    for name, split in prepared.splits.items():
        records = split.records
        table.add_row(name, f"{records.examples:,}", f"{records.positives:,}", f"{len(records.shards)}")
    console.print(table)
