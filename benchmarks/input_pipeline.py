"""Examples per second of the training input, and its slowest step."""

import time
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench import SPEC, Bench
from benchmarks.report import Figure, write
from model_training.data.examples import Examples
from model_training.data.identities import Identities
from model_training.runtime import load_tensorflow
from streamer.features import FeatureSpec, Layout

if TYPE_CHECKING:
    from model_training.data.manifest import Manifest

_EXAMPLES, _SHARDS, _BATCH, _SHUFFLE = 163_840, 8, 1024, 20_480
_BOUND = 100_000
_EPOCHS = 1_000_000
_WHOLE = ("batches", "batches_in_any_order")


def run(bench: Bench) -> None:
    """Compressed shards of the reference spec: all steps together, and each step alone."""
    load_tensorflow()  # only this scenario needs it
    from model_training.data.records import write_records  # noqa: PLC0415

    spec = FeatureSpec.from_yaml(Path(SPEC))
    bench.console.print(f"writing {_EXAMPLES:,} examples ...")
    directory = bench.work / "records"
    manifest = write_records([random_examples(spec, _EXAMPLES)], directory, spec, shards=_SHARDS, compression="GZIP")
    rates = _rates(directory, manifest, bench.options.seconds)
    settings = {
        "examples": _EXAMPLES,
        "shards": _SHARDS,
        "batch_size": _BATCH,
        "shuffle_buffer": _SHUFFLE,
        "row_ids": manifest.row_ids,
        "row_floats": manifest.row_floats,
        "bytes_per_example": round(sum(p.stat().st_size for p in directory.glob("*.tfrecord")) / _EXAMPLES),
        "bounded_by": slowest_step(rates),
    }
    write("input_pipeline", figures_of(rates), settings, bench.options.out)


def figures_of(rates: Mapping[str, float]) -> list[Figure]:
    """The rates of complete batches, with their bound, and those of the single steps."""
    return [
        Figure(name, rate, "examples/s", *((">=", _BOUND) if name in _WHOLE else ())) for name, rate in rates.items()
    ]


def slowest_step(rates: Mapping[str, float]) -> str:
    """The step that limits the rate if all run concurrently."""
    return min((name for name in rates if name not in _WHOLE), key=lambda name: rates[name])


def random_examples(spec: FeatureSpec, n: int, *, seed: int = 3) -> Examples:
    """n rows with random ids, which compress worse than real ones, and a click rate of 10 %."""
    layout, rng = Layout(spec), np.random.default_rng(seed)
    hashes = rng.integers(1, 2**64, (2, n), dtype=np.uint64)
    return Examples(
        rng.integers(1, layout.table_rows, (n, layout.row_ids), dtype=np.int32),
        rng.standard_normal((n, layout.row_floats), dtype=np.float32),
        (rng.random(n) < 0.1).astype(np.int8),
        Identities(hashes[0], hashes[1], np.arange(n, dtype=np.int64)),
    )


def _rates(directory: Path, manifest: "Manifest", seconds: float) -> dict[str, float]:
    from model_training.data.input_pipeline import batches, parser, records  # noqa: PLC0415

    serialized = records(directory, manifest).batch(_BATCH // manifest.rows_per_record, drop_remainder=True)
    in_memory = [part for _, part in zip(range(8), serialized, strict=False)]
    parse = parser(manifest)

    def whole(*, deterministic: bool) -> float:
        data = batches(
            directory, manifest, _BATCH, epochs=_EPOCHS, shuffle_buffer=_SHUFFLE, deterministic=deterministic
        )
        return _rate(data, seconds)

    return {
        "batches": whole(deterministic=True),
        "batches_in_any_order": whole(deterministic=False),
        "reading": _rate(serialized.repeat(), seconds),
        "parsing": _rate((parse(part) for part in cycle(in_memory)), seconds),
    }


def _rate(parts: Iterable[Any], seconds: float) -> float:
    """Examples per second after the first batch; the fill of the shuffle buffer does not count."""
    batches = iter(parts)
    next(batches)
    started = time.monotonic()
    n = 0
    while time.monotonic() - started < seconds:
        next(batches)
        n += _BATCH
    return n / (time.monotonic() - started)
