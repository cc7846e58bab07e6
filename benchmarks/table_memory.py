"""A table of a million ads: cost of a lookup, memory, time to open it elsewhere.

As a program it is that other process: it opens the table, prints how long that took, and keeps it until its input ends.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import psutil

from benchmarks.ads import MEMORY
from benchmarks.bounds import bound_of
from benchmarks.report import Figure
from sandbox.host.parent import parent_bound_command
from sandbox.world.world import World
from streamer.ads import RowForm
from streamer.features import Encoder, FeatureSpec
from streamer.settings.sections import AdsSettings
from streamer.tables.reader import Reader
from streamer.tables.store import AdStore

ADS = 1_000_000
PROCESSES = 4
_LOOKUPS = 1_000
_CANDIDATES = 300


@dataclass(frozen=True, slots=True)
class Measured:
    """A table of n ads.

    Attributes:
        row_bytes: of an encoded ad; used_bytes: of the whole table, with its index.
        lookup_ms: CPU time of a lookup of 300 random ads, median.
        opening_s: of each other process, from its first call until it has mapped all pages and found 300 ads.
        pss_bytes: the table's share of the memory of all processes; PSS divides a shared page by its users.
    """

    ads: int
    row_bytes: int
    used_bytes: int
    lookup_ms: float
    opening_s: Sequence[float]
    pss_bytes: int


def measure(world: World, spec: Path, ads: int = ADS, processes: int = PROCESSES, lookups: int = _LOOKUPS) -> Measured:
    """Fills a table and measures it in `processes` processes, of which this is one."""
    form = Encoder(FeatureSpec.from_yaml(spec)).row_form()
    with tempfile.TemporaryDirectory(prefix="ctr-bench-", dir=MEMORY) as folder, ExitStack() as stack:
        directory = Path(folder) / "tables"
        store = _store(directory, form)
        _fill(store, form, world, ads)
        reader = _open(store)
        stack.callback(reader.close)
        lookup_ms = _lookup_ms(reader, ads, lookups)
        others = [stack.enter_context(_other_process(directory, spec, ads)) for _ in range(processes - 1)]
        pss_bytes = sum(pss_of(pid, folder) for pid in (os.getpid(), *(pid for pid, _ in others)))
        used_bytes = reader.state.used_bytes
    return Measured(ads, form.dtype.itemsize, used_bytes, lookup_ms, [seconds for _, seconds in others], pss_bytes)


def figures_of(measured: Measured) -> list[Figure]:
    """Times, and memory in 10^6 bytes."""
    figures = [
        Figure("lookup", measured.lookup_ms, "ms"),
        Figure("opening", max(measured.opening_s), "s"),
        Figure("memory_of_four_processes", measured.pss_bytes / 1e6, "MB"),
        Figure("bytes_per_ad", measured.used_bytes / measured.ads, "bytes"),
        Figure("row_bytes", measured.row_bytes, "bytes"),
    ]
    return [Figure(f.name, f.value, f.unit, *bound_of("tables", f.name)) for f in figures]


def pss_of(pid: int, path: str) -> int:
    """The memory of a process that files below `path` are mapped into, in bytes (PSS)."""
    return sum(mapped.pss for mapped in psutil.Process(pid).memory_maps() if mapped.path.startswith(path))


def _store(directory: Path, form: RowForm) -> AdStore:
    return AdStore(directory, form, "ads", "", AdsSettings().max_bytes)


def _fill(store: AdStore, form: RowForm, world: World, ads: int) -> None:
    """Stores `ads` ads with the features of the world's ads in turn."""
    rows = form.encode([orjson.loads(value) for value in world.ads.json])
    writer = store.open_writer()
    assert writer is not None
    try:
        for _ in writer.recover():
            pass
        writer.begin_load([0], [ads])
        for start in range(0, ads, writer.max_changes):
            numbers = range(start, min(ads, start + writer.max_changes))
            if writer.apply(list(map(_name, numbers)), rows[np.array(numbers) % len(rows)], [], [numbers.stop]):
                raise RuntimeError(f"a table of {ads} ads: {writer.full_reason}")
        writer.mark_ready()
    finally:
        writer.close()


def _name(number: int) -> str:
    return f"ad-{number:07d}"


def _open(store: AdStore) -> Reader:
    reader = store.open_reader()
    assert reader is not None
    for _ in reader.warm():
        pass
    return reader


def _random_names(rng: np.random.Generator, ads: int) -> list[str]:
    return list(map(_name, rng.integers(0, ads, _CANDIDATES).tolist()))


def _lookup_ms(reader: Reader, ads: int, lookups: int) -> float:
    rng, spent = np.random.default_rng(1), []
    for _ in range(lookups):
        names = _random_names(rng, ads)
        start = time.process_time()
        found = reader.lookup(names)
        spent.append(time.process_time() - start)
        assert found.known.all()
    return 1e3 * statistics.median(spent)


@contextmanager
def _other_process(directory: Path, spec: Path, ads: int) -> Iterator[tuple[int, float]]:
    """A process that has opened the table: its id, and the seconds that it took."""
    command = [sys.executable, "-m", "benchmarks.table_memory", str(directory), str(spec), str(ads)]
    with subprocess.Popen(parent_bound_command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.pid, float(process.stdout.readline())
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("spec", type=Path)
    parser.add_argument("ads", type=int)
    arguments = parser.parse_args()
    form = Encoder(FeatureSpec.from_yaml(arguments.spec)).row_form()
    start = time.perf_counter()
    reader = _open(_store(arguments.directory, form))
    found = reader.lookup(_random_names(np.random.default_rng(2), arguments.ads))
    seconds = time.perf_counter() - start
    assert found.known.all()
    print(seconds, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
