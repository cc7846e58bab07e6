"""Prepares training data: from a log to a folder of records."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from glob import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.sql import functions as f

from model_training.config.preparation import PrepareConfig, SplitConfig, TableSource
from model_training.data.collisions import write_collisions
from model_training.data.coverage import write_coverage
from model_training.data.manifest import ROWS_PER_RECORD, Manifest, Shard, write_manifest
from model_training.data.prepared import SPLITS, Prepared, Split, SplitManifest
from model_training.errors import DataError
from model_training.preparation.collisions import collisions
from model_training.preparation.coverage import coverage, totals
from model_training.preparation.encoding import encode
from model_training.preparation.rows import KEY, LABEL, REASON, TIME_MS, Rows, data_errors, share_hash
from model_training.preparation.shards import COMPRESSION, SPLIT, WrittenShard, write_shards
from model_training.preparation.statistics import STATISTICS, observe, write_statistics
from model_training.preparation.table import read_table
from model_training.preparation.topics import read_topics
from streamer.features import FeatureSpec, Layout

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_ACCURACY = 100_000
_ABANDONED_SECONDS = 86_400.0


def prepare(
    spark: "SparkSession",
    config: PrepareConfig,
    spec: FeatureSpec,
    output: Path,
    *,
    overwrite: bool = False,
    allow_unread: bool = False,
) -> Prepared:
    """Reads the log that `config` names and writes `output`, whole or not at all.

    Args:
        allow_unread: whether `config` may have expressions that `spec` does not read, because they are for its own
            spec.

    Raises:
        ConfigError: the config does not fit the log or the spec.
        DataError: the log cannot be read, a split would be empty, or `output` already exists.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not overwrite:
        raise DataError(f"{output}: already exists and is not empty; --overwrite replaces it")
    partial = output.parent / f".{output.name}.{os.getpid()}.partial"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(output)
        partial.mkdir()
        with data_errors("preparation"):
            prepared = _prepare(read_source(spark, config, spec, allow_unread=allow_unread), config, spec, partial)
        _replace(output, partial)
    except OSError as error:
        raise DataError(f"{output}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return prepared


def _prepare(source: Rows, config: PrepareConfig, spec: FeatureSpec, directory: Path) -> Prepared:
    encoded = encode(source, spec).persist(StorageLevel.MEMORY_AND_DISK)
    counts = {key: found for key, *found in encoded.groupBy(REASON).agg(f.count(f.lit(1)), *totals(spec)).collect()}
    usable_rows, *present = counts.pop(None, [0])
    reasons = {reason: found[0] for reason, found in counts.items()}
    dropped = dict(sorted(reasons.items()))
    total = usable_rows + sum(dropped.values())
    check_dropped(dropped, total, source.no_faults, config.max_dropped_share)
    usable = encoded.where(f.col(REASON).isNull())
    validation_from, test_from = _bounds(usable, config.split)
    split = f.lit(SPLITS[0])
    for name, start in ((SPLITS[1], validation_from), (SPLITS[2], test_from)):
        if start is not None:
            split = f.when(f.col(TIME_MS) >= start, name).otherwise(split)
    rows = usable.withColumn(SPLIT, split)
    training = rows.where(f.col(SPLIT) == SPLITS[0])
    statistics = {} if config.is_encoded else observe(training, spec, quantiles=config.quantiles)
    write_statistics(directory / STATISTICS, statistics)
    write_collisions(directory, {} if config.is_encoded else collisions(usable, spec))
    write_coverage(directory, {} if config.is_encoded else coverage(spec, usable_rows, present, source.requests))
    kept = rows.where((f.col(SPLIT) != SPLITS[0]) | _is_kept(config))
    scratch = directory / "shards"
    scratch.mkdir()
    written = write_shards(kept, spec, scratch, config.shards)
    # Not after a failure: tasks may still read it, and the end of the session frees it.
    encoded.unpersist()
    splits = {name: part for name in SPLITS if (part := moved(name, written, directory, spec, config)) is not None}
    shutil.rmtree(scratch)
    starts = zip(SPLITS, (0, validation_from, test_from), strict=True)
    _check(splits, [name for name, start in starts if start is not None])
    left = sum(shard.examples for shard in written)
    prepared = Prepared(
        config=config.model_dump(mode="json"),
        rows=total,
        dropped=dropped,
        sampled_out=usable_rows - left,
        counts=source.counts,
        validation_from_ms=validation_from,
        test_from_ms=test_from,
        splits=splits,
    )
    write_manifest(directory, prepared)
    return prepared


def check_dropped(dropped: Mapping[str, int], total: int, no_faults: frozenset[str], max_share: float) -> None:
    """Rejects a log of `total` rows of which too many are dropped.

    Args:
        dropped: rows by the reason to drop them; those of `no_faults` do not count.

    Raises:
        DataError: no row is left, or the share is above `max_share`; lists all reasons.
    """
    why = "; ".join(f"{count:,} × {reason}" for reason, count in dropped.items())
    if total == sum(dropped.values()):
        raise DataError(f"no row of the log can be used: {why or 'there is none'}")
    faults = sum(count for reason, count in dropped.items() if reason not in no_faults)
    if faults > max_share * total:
        raise DataError(
            f"{faults:,} of {total:,} rows cannot be used, more than max_dropped_share = {max_share:g} allows: {why}"
        )


def read_source(spark: "SparkSession", config: PrepareConfig, spec: FeatureSpec, *, allow_unread: bool) -> Rows:
    """The rows of the log that `config` names; raises and takes `allow_unread` as `prepare`."""
    match config.source:
        case TableSource() as table:
            return read_table(spark, table, spec, allow_unread=allow_unread)
        case topics:
            return read_topics(spark, topics, spec)


def _bounds(rows: "DataFrame", split: SplitConfig) -> tuple[int | None, int | None]:
    """Start times of validation and test, in ms; None for a split that is not wanted."""
    if split.validation_from is not None or split.test_from is not None:
        return _ms(split.validation_from), _ms(split.test_from)
    shares = f.array(f.lit(split.train), f.lit(split.train + split.validation))
    cuts = rows.agg(f.percentile_approx(TIME_MS, shares, _ACCURACY)).first()[0]
    # Each cut is the time of the last row before it.
    return cuts[0] + 1 if split.validation else None, cuts[1] + 1 if split.test else None


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _is_kept(config: PrepareConfig) -> "Column":
    """True for clicks, and for non-clicks whose key hash is below the rate.

    Every run keeps the same rows.
    """
    return (f.col(LABEL) == 1) | (share_hash(config.seed, f.col(KEY)) < config.negative_sampling_rate)


def moved(
    name: str, written: Sequence[WrittenShard], directory: Path, spec: FeatureSpec, config: PrepareConfig
) -> SplitManifest | None:
    """Moves the shards of a split to their final names; None if the split has no shards."""
    own = [shard for shard in written if shard.split == name]
    if not own:
        return None
    (directory / name).mkdir()
    shards = []
    for i, shard in enumerate(own):
        file = f"{name}/records-{i:05d}-of-{len(own):05d}.tfrecord.gz"
        Path(shard.path).rename(directory / file)
        shards.append(Shard(file, shard.examples, shard.positives, shard.sha256, shard.rows))
    layout = Layout(spec)
    records = Manifest(
        spec_name=spec.name,
        spec_hash=spec.hash,
        examples=sum(shard.examples for shard in own),
        positives=sum(shard.positives for shard in own),
        row_ids=layout.row_ids,
        row_floats=layout.row_floats,
        negative_sampling_rate=config.negative_sampling_rate if name == SPLITS[0] else 1.0,
        shards=tuple(shards),
        compression=COMPRESSION,
        rows_per_record=ROWS_PER_RECORD,
        has_identities=True,
        has_weights=isinstance(config.source, TableSource) and config.source.weight is not None,
    )
    return SplitManifest(records, min(shard.first_ms for shard in own), max(shard.last_ms for shard in own))


def _check(splits: Mapping[Split, SplitManifest], wanted: Sequence[Split]) -> None:
    for name in wanted:
        if name not in splits:
            raise DataError(f"split {name!r} has no rows: use other shares or times")
    present: list[Any] = [splits[name] for name in SPLITS if name in splits]
    for earlier, later in pairwise(present):
        if earlier.last_ms > later.first_ms:
            raise DataError(
                f"the splits overlap: the earlier ends at {earlier.last_ms} ms, the later begins at {later.first_ms} ms"
            )


def remove_abandoned(output: Path) -> None:
    """Removes what killed preparations of the same folder left, when it is a day old."""
    for left in output.parent.glob(f".{escape(output.name)}.*"):
        if left.suffix in {".partial", ".old"} and time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _replace(output: Path, partial: Path) -> None:
    old = partial.with_suffix(".old")
    if output.exists():
        output.rename(old)
    partial.rename(output)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
