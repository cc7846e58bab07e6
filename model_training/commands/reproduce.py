"""`model-training reproduce`: trains a version again, and compares the weights bit by bit."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_training.commands.calibration import calibrate
from model_training.commands.data import LogOption, PreparedOption, check_log_or_prepared, open_log, open_prepared
from model_training.commands.lineage import data_of, progress_of
from model_training.commands.output import console, export_described, fail_clearly
from model_training.commands.role import StartOption, open_start
from model_training.commands.show import VersionArgument, found_version
from model_training.commands.train import fit
from model_training.errors import ConfigError, DataError
from model_training.export.versions import check_free
from model_training.lineage.differences import differences
from model_training.lineage.lineage import Data, Lineage, read_lineage
from model_training.lineage.machine import this_code, this_machine
from model_training.lineage.record import config_of
from model_training.runtime import load_tensorflow
from model_training.urls import path_or_url

if TYPE_CHECKING:
    from model_training.config.training import TrainingConfig
    from model_training.data.training_data import TrainingData
    from model_training.training.source import Source
    from streamer.features import FeatureSpec

_DIFFERS = 1


def reproduce(
    context: typer.Context,
    version: VersionArgument,
    *,
    log: LogOption = None,
    prepared: PreparedOption = None,
    start: StartOption = None,
    export_to: Annotated[
        Path | None, typer.Option(help="Base path for the new version 1; by default it is not kept.")
    ] = None,
) -> None:
    """Trains a version again from the same data; exit status 1 if the weights differ."""
    with fail_clearly():
        check_log_or_prepared(context, log, prepared)
        path = found_version(version)
        lineage = read_lineage(path)
        config, made = _reproducible(lineage, path)
        assert lineage is not None
        if export_to is not None:
            check_free(export_to, 1)
        load_tensorflow()
        source = _source(lineage, path, start)
        from model_training.export.servable import Servable  # noqa: PLC0415
        from model_training.export.weights import differing_variables  # noqa: PLC0415

        started = datetime.now(UTC)
        for line in differences((lineage.code, lineage.machine), (this_code(), this_machine())):
            console.print(f"differs: {line}", style="yellow", soft_wrap=True)
        spec = Servable.load(path).spec
        begin = None if source is None else open_start(source, config, spec)
        with tempfile.TemporaryDirectory() as scratch:
            data, found = _opened(
                made, config, spec, Path(scratch, "records"), log=log, prepared=prepared, source=source
            )
            _check_data(made, found)
            checkpoints = Path(scratch, "checkpoints") if config.early_stopping else None
            model, result = fit(data, spec, config, checkpoints, start=begin)
            calibration = calibrate(lambda: model, spec, data.directory, data.manifest, config)
            again = export_described(
                model,
                spec,
                config,
                export_to or Path(scratch, "again"),
                1,
                started=started,
                data=found,
                progress=progress_of(result, found, config),
                processes=lineage.processes,
                source=source,
                calibration=calibration,
            )
            differing = differing_variables(path, again)
        if not differing:
            console.print(f"equal: every bit of the weights of {path}", style="green", soft_wrap=True)
            return
        for name, how in differing.items():
            console.print(f"{name}: {how}", soft_wrap=True)
        console.print(f"{len(differing)} variables differ from {path}", style="red", soft_wrap=True)
        raise typer.Exit(_DIFFERS)


def _reproducible(lineage: Lineage | None, path: Path) -> "tuple[TrainingConfig, Data]":
    """The config and data of a version that one process made deterministically.

    Raises:
        ConfigError: it is not such a version.
    """
    if lineage is None:
        raise ConfigError(f"{path}: has no lineage: an older program made this version")
    if lineage.data is None or lineage.processes is None:
        raise ConfigError(f"{path}: was not trained")
    if lineage.processes.kind != "single":
        raise ConfigError(
            f"{path}: {lineage.processes.computing} processes trained it ({lineage.processes.kind}); only the"
            " training of a single process repeats itself bit by bit"
        )
    config = config_of(lineage.config, path)
    if not config.deterministic:
        raise ConfigError(f"{path}: was trained with `deterministic: false`, which does not repeat itself")
    return config, lineage.data


def _source(lineage: Lineage, path: Path, start: Path | None) -> "Source | None":
    """The model with which a version began: at `start`, or where it was.

    Raises:
        ConfigError: it is not there, is another one, or the version began with random weights.
        DataError: it cannot be read.
    """
    from model_training.training.source import Source  # noqa: PLC0415 - loads TensorFlow

    began = lineage.begins_with
    if began is None:
        if start is not None:
            raise ConfigError(f"--warm-start {start}: {path} began with random weights")
        return None
    try:
        source = Source.find(start or path_or_url(began.path))
    except ConfigError as error:
        raise ConfigError(f"{error}; {path} began with this model: --warm-start names its place") from error
    if source.checksum != began.sha256:
        raise ConfigError(
            f"{source.path}: has checksum {source.checksum}, and {path} began with a model of checksum {began.sha256}:"
            " --warm-start names its place"
        )
    return source


def _opened(
    made: Data,
    config: "TrainingConfig",
    spec: "FeatureSpec",
    scratch: Path,
    *,
    log: Path | None,
    prepared: Path | None,
    source: "Source | None",
) -> "tuple[TrainingData, Data]":
    if prepared is not None:
        data = open_prepared(prepared, "none", config)
        return data, data_of(None, prepared, data.manifest, config, source=source)
    assert log is not None
    holdout, rate = made.holdout or 0.0, made.negative_sampling_rate
    data = open_log(log, scratch, spec, config, holdout=holdout, negative_sampling_rate=rate)
    return data, data_of(log, scratch, data.manifest, config, holdout=holdout, source=source)


def _check_data(made: Data, found: Data) -> None:
    """Rejects other rows than those of the version.

    Raises:
        DataError: names the split and both checksums.
    """
    if made.kind != found.kind:
        raise DataError(f"{found.path}: the version was trained on a {made.kind}, not on a {found.kind}")
    for name in made.seen:
        before, now = made.splits.get(name), found.splits.get(name)
        if before is None or now is None or before.sha256 != now.sha256:
            then, here = ("nothing" if rows is None else rows.sha256 for rows in (before, now))
            raise DataError(f"{found.path}: split {name!r} has checksum {here}, the version was trained on {then}")
