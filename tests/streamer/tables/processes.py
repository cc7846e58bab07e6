"""Processes that share a table: writers that are killed while readers look up, and their memory.

`python -m tests.streamer.tables.processes kill DIRECTORY KILLS` prints what the readers saw;
`python -m tests.streamer.tables.processes share DIRECTORY ADS ROW_BYTES` prints memory and times.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamer.tables.reader import Reader
from streamer.tables.store import AdStore
from streamer.tables.writer import Writer
from tests.streamer.tables.stores import TOPIC, TOPIC_ID, CheckedForm, rows_of, versions_in

_IDS = [f"ad{number}" for number in range(400)]
_READERS = 2
_SPEED = 100
"""How much faster the clock of quarantines runs, so that slots are used again within the life of a writer."""


def batch(number: int) -> tuple[dict[str, int], list[str]]:
    """The changes and the deleted ads of a batch; the same in each process."""
    chosen = random.Random(number).sample(_IDS, 40)
    return dict.fromkeys(chosen[:30], number), chosen[30:]


def versions_after(count: int) -> dict[str, int]:
    """The table after this many batches."""
    found: dict[str, int] = {}
    for number in range(count):
        changed, deleted = batch(number)
        found |= changed
        for ad_id in deleted:
            found.pop(ad_id, None)
    return found


def _store(directory: Path, row_bytes: int = 168, max_bytes: int = 2**20) -> AdStore:
    form = CheckedForm(row_bytes // 8 - 1)
    return AdStore(directory, form, TOPIC, TOPIC_ID, max_bytes, clock=lambda: _SPEED * time.monotonic())


def _first_reader(directory: Path) -> Reader:
    reader = None
    while reader is None:
        reader = _store(directory).open_reader()
    return reader


def _opened(store: AdStore) -> Writer:
    writer = store.open_writer()
    while writer is None:
        time.sleep(0.001)  # the kernel gives the lock of a killed process back
        writer = store.open_writer()
    for _ in writer.recover():
        pass
    return writer


def _write(directory: Path) -> None:
    writer = _opened(_store(directory))
    if not writer.state.positions:
        writer.begin_load([0], [10])
    while True:
        (number,) = writer.state.positions
        changed, deleted = batch(number)
        while writer.apply(list(changed), rows_of(changed), deleted, [number + 1]) is None:
            time.sleep(0.001)
        if number == 10:
            writer.mark_ready()


def _read(directory: Path, seed: int, result: int) -> None:
    """Looks up until the directory has a file `stop`; a row that is wrong is an AssertionError."""
    reader = _first_reader(directory)
    while not reader.state.is_ready:
        reader.refresh()
    chooser = random.Random(seed)
    lookups, exact, older, applied = 0, 0, 0, 0
    expected: dict[str, int] = {}
    while not (directory / "stop").exists():
        asked = chooser.sample(_IDS, 150)
        versions = versions_in(reader, asked)
        (position,) = reader._position.offsets  # noqa: SLF001  of this lookup
        assert position >= applied
        for number in range(applied, position):
            changed, deleted = batch(number)
            expected |= changed
            for ad_id in deleted:
                expected.pop(ad_id, None)
        applied = position
        lookups += 1
        if versions == [expected.get(ad_id) for ad_id in asked]:
            exact += 1
        for ad_id, version in zip(asked, versions, strict=True):
            older += version is not None and version < expected.get(ad_id, 0)
        reader.refresh()
    os.write(result, json.dumps({"lookups": lookups, "exact": exact, "older": older, "position": applied}).encode())


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  the parent prints it
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    return pid


def kill(directory: Path, kills: int) -> None:
    """Kills writers at random moments while readers look up."""
    reads = [os.pipe() for _ in range(_READERS)]
    readers = [
        _fork(lambda seed=seed, pipe=pipe: _read(directory, seed, pipe[1]))  # type: ignore[misc]
        for seed, pipe in enumerate(reads)
    ]
    chooser, goal = random.Random(5), 12
    watcher = None
    for _ in range(kills):
        writer = _fork(lambda: _write(directory))
        watcher = watcher or _first_reader(directory)
        while watcher.state.positions < (goal,):
            time.sleep(0.0005)
        time.sleep(chooser.uniform(0, 0.003))
        os.kill(writer, signal.SIGKILL)
        assert os.waitpid(writer, 0)[1] == signal.SIGKILL
        goal = watcher.state.positions[0] + chooser.randint(1, 40)
    (directory / "stop").touch()
    found = [json.loads(os.read(pipe[0], 1000) or "{}") for pipe in reads]
    codes = [os.waitpid(pid, 0)[1] for pid in readers]
    writer_after = _opened(_store(directory))
    (position,) = writer_after.state.positions
    reader = _first_reader(directory)
    changed, deleted = batch(position)
    time.sleep(1 / _SPEED)
    assert writer_after.apply(list(changed), rows_of(changed), deleted, [position + 1]) == []
    expected = versions_after(position + 1)
    correct = versions_in(reader, _IDS) == [expected.get(ad_id) for ad_id in _IDS]
    print(json.dumps({"readers": found, "codes": codes, "batches": position, "correct": correct}))  # noqa: T201


def share(directory: Path, ads: int, row_bytes: int) -> None:
    """Fills a table, lets four processes map it, and adds up their memory."""
    store = _store(directory, row_bytes, max(2**20, 2**30 * ads // 1_000_000))
    writer = _opened(store)
    writer.begin_load([0], [ads])
    rows = np.zeros(1024, CheckedForm(row_bytes // 8 - 1).dtype)
    started = _cpu()
    for first in range(0, ads, writer.max_changes):
        ids = [f"ad-{number:09d}" for number in range(first, min(first + writer.max_changes, ads))]
        assert writer.apply(ids, rows[: len(ids)], [], [first]) == []
    loaded = _cpu() - started
    writer.mark_ready()
    pipes = [os.pipe() for _ in range(2)]
    writer.close()

    def work() -> None:
        began = time.perf_counter()
        reader = store.open_reader()
        assert reader is not None
        for _ in reader.warm():
            pass
        opened = time.perf_counter() - began
        assert reader.lookup([f"ad-{number:09d}" for number in range(0, ads, ads // 300)]).known.all()
        os.write(pipes[0][1], f"{opened}\n".encode())
        os.read(pipes[1][0], 1)

    workers = [_fork(work) for _ in range(4)]
    opened: list[float] = []
    while len(opened) < len(workers):
        opened += [float(line) for line in os.read(pipes[0][0], 1000).split()]
    pss = [_pss_of(pid, directory) for pid in workers]
    os.write(pipes[1][1], b"xxxx")
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0] * 4
    began = time.perf_counter()
    writer = _opened(store)
    recovered = time.perf_counter() - began
    used = writer.state.used_bytes
    figures = {"used": used, "pss": pss, "load_cpu_s": loaded, "open_s": opened, "recover_s": recovered}
    print(json.dumps(figures))  # noqa: T201


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _pss_of(pid: int, directory: Path) -> int:
    """The proportional set size, in bytes, of a process's mappings of the files in a directory."""
    total, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            counts = fields[-1].startswith(str(directory))
        elif counts and fields[0] == "Pss:":
            total += int(fields[1]) * 1024
    return total


if __name__ == "__main__":
    command, path, *numbers = sys.argv[1:]
    if command == "kill":
        kill(Path(path), *map(int, numbers))
    else:
        share(Path(path), *map(int, numbers))
