"""The examples of a run: records to train on, and later examples to evaluate the model on.

They come from a click log, which is encoded here, or from a folder that `model-training prepare` made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from model_training.data.click_log import count_lines, encode_log, read_log
from model_training.data.coverage import counted, write_coverage
from model_training.data.examples import NOTHING, Examples, Stream, joined, rebatched
from model_training.data.identities import Identities
from model_training.data.input_pipeline import batches
from model_training.data.manifest import MANIFEST, ROWS_PER_RECORD, Damage, Manifest, without_damaged
from model_training.data.prepared import VALIDATION, Split, is_prepared, read_prepared
from model_training.data.records import write_records
from model_training.errors import ConfigError, DataError, in_a_line
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.features.coverage import Coverage

_READ_BATCH = 4096
WRITTEN_BLOCK = 128 * ROWS_PER_RECORD
"""A multiple of shards × rows of a record, so that only the last record of a shard may be short."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Records to train on, and later examples that the model does not see, to evaluate it on.

    Attributes:
        training: reads the records' examples into memory.
        holdout_sampling_rate: share of the non-clicks that the records kept, relative to `holdout`; scores are
            corrected by it before the evaluation.
        damage: lost shards of the records; None if the records were not checked.
    """

    directory: Path
    manifest: Manifest
    training: Callable[[], Examples]
    holdout: Stream
    holdout_sampling_rate: float = 1.0
    damage: Damage | None = None


def open_prepared(directory: Path, split: Split | None, *, max_lost_share: float = 0.0) -> TrainingData:
    """Opens prepared data: the split `train`, and `split` for the evaluation, or none.

    Raises:
        DataError: it is no such folder, has no such split, or more than `max_lost_share` of a split is damaged.
    """
    prepared = read_prepared(directory)
    manifest, damage = without_damaged(directory, prepared.split("train"), max_lost_share=max_lost_share)
    holdout, damage_later = NOTHING, Damage((), 0)
    if split is not None:
        later, damage_later = without_damaged(directory, prepared.split(split), max_lost_share=max_lost_share)
        holdout = stored(directory, later)
    return TrainingData(
        directory,
        manifest,
        lambda: read_examples(directory, manifest),
        holdout,
        manifest.negative_sampling_rate,
        Damage(damage.shards + damage_later.shards, damage.examples + damage_later.examples),
    )


def split_log(
    log: Path,
    directory: Path,
    spec: FeatureSpec,
    *,
    holdout: float = 0.1,
    validation_share: float = 0.0,
    negative_sampling_rate: float = 1.0,
) -> TrainingData:
    """Encodes a log: first lines as records, the last share `holdout` for the evaluation.

    The records are written to `directory`, after the log was read; validation examples of an earlier log are removed.

    Args:
        validation_share: share of the lines before the holdout, its last ones, that become the separate records of
            early stopping (`data.prepared.validation_records`).

    Raises:
        ConfigError: `holdout` is not in [0, 1), `negative_sampling_rate` is not in (0, 1], or `directory` holds data of
            `prepare`.
        DataError: the log cannot be read, is empty, or has an invalid line.
    """
    if not 0 < negative_sampling_rate <= 1:
        raise ConfigError(f"negative_sampling_rate {negative_sampling_rate:g}: must be in (0, 1]")
    if (directory / MANIFEST).exists() and is_prepared(directory):
        raise ConfigError(f"{directory}: holds data that `prepare` made, which the records of a log would overwrite")
    encoder = Encoder(spec)
    cut, end = log_cuts(log, holdout=holdout, validation_share=validation_share)
    later = _lines(log, encoder, first=end)

    def write(folder: Path, first: int, last: int) -> Manifest:
        coverage = Coverage(spec)
        requests = read_log(log, first=first, last=last)
        lines = rebatched(encode_log(requests, encoder, coverage=coverage), WRITTEN_BLOCK)
        manifest = write_records(lines, folder, spec, negative_sampling_rate=negative_sampling_rate)
        write_coverage(folder, counted(coverage))
        return manifest

    try:
        # First, so that the examples of two logs never stand side by side.
        (directory / VALIDATION / MANIFEST).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{directory / VALIDATION}: cannot be written: {in_a_line(error)}") from error
    manifest = write(directory, 0, cut)
    if validation_share:
        write(directory / VALIDATION, cut, end)
    return TrainingData(directory, manifest, lambda: read_examples(directory, manifest), later)


def _lines(log: Path, encoder: Encoder, *, first: int) -> Stream:
    """The impressions of a log from a line on; all lines are read, to find invalid ones now."""
    counts = [0, 0]
    for number, logged in enumerate(read_log(log)):
        if number >= first:
            counts[0] += len(logged.clicked)
            counts[1] += sum(logged.clicked)
    return Stream(counts[0], counts[1], lambda: encode_log(read_log(log, first=first), encoder))


def later_lines(log: Path, spec: FeatureSpec, *, holdout: float, user_path: str | None = None) -> Examples:
    """The last share `holdout` of a log's lines, encoded.

    Args:
        user_path: path of the user's id in a request; None if users are not known.

    Raises:
        ConfigError: `holdout` is not in [0, 1), or `user_path` is no path.
        DataError: the log cannot be read, or has an invalid line.
    """
    lines, layout = read_log(log, first=log_cuts(log, holdout=holdout)[1]), Layout(spec)
    return joined(list(encode_log(lines, Encoder(spec), user_path=user_path)), layout.row_ids, layout.row_floats)


def prepared_split(directory: Path, split: Split, spec: FeatureSpec) -> Examples:
    """The examples of one split of a folder that `model-training prepare` made.

    Raises:
        DataError: it is no such folder, has no such split, is damaged, or was encoded by another spec.
    """
    manifest, _ = without_damaged(directory, read_prepared(directory).split(split), max_lost_share=0.0)
    manifest.check(spec)
    return read_examples(directory, manifest)


def log_cuts(log: Path, *, holdout: float, validation_share: float = 0.0) -> tuple[int, int]:
    """The numbers, from 0, of the lines with which validation and holdout begin.

    Raises:
        ConfigError: `holdout` is not in [0, 1).
        DataError: the log cannot be read.
    """
    if not 0 <= holdout < 1:
        raise ConfigError(f"holdout {holdout}: must be in [0, 1)")
    end = round(count_lines(log) * (1 - holdout))
    return round(end * (1 - validation_share)), end


def read_examples(directory: Path, manifest: Manifest) -> Examples:
    """Reads all examples of a set of shards into memory, in the order of their interleaving."""
    return joined(list(stored(directory, manifest).blocks()), manifest.row_ids, manifest.row_floats)


def stored(directory: Path, manifest: Manifest) -> Stream:
    """The examples of a set of shards outside memory, in the order of their interleaving.

    A pass raises `DataError` if the records cannot be read.
    """
    # Once for all passes: a pipeline takes longer to build than a small split takes to read.
    data = batches(directory, manifest, _READ_BATCH, identities=manifest.has_identities)

    def blocks() -> Iterator[Examples]:
        try:
            for batch in data:
                ids, floats, labels, *known = (part.numpy() for part in batch)
                weights = known.pop(0) if manifest.has_weights else None
                identities = Identities(known[0].view(np.uint64), known[1].view(np.uint64), known[2]) if known else None
                yield Examples(ids, floats, labels.astype(np.int8), identities, weights)
        except tf.errors.OpError as error:
            raise DataError(f"{directory}: the records cannot be read: {in_a_line(error)}") from error

    return Stream(manifest.examples, manifest.positives, blocks)
