"""Several processes share a table, and the one that writes is killed."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pytest

from streamer.tables.index import Places
from streamer.tables.layout import MIN_BUCKETS, Geometry
from streamer.tables.reader import QUARANTINE_S
from streamer.tables.writer import Writer
from streamer.types import U64
from tests.streamer.tables.stores import (
    MAX_BYTES,
    Clock,
    opened,
    put,
    reader_of,
    rows_of,
    store_in,
    versions_in,
    writer_of,
)


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def _run(*arguments: object) -> Any:
    command = [sys.executable, "-m", "tests.streamer.tables.processes", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("kills", [4, pytest.param(150, marks=pytest.mark.slow)])
def test_readers_never_see_a_wrong_row_while_writers_are_killed(kills: int, shared_memory: Path) -> None:
    found = _run("kill", shared_memory, kills)
    assert found["codes"] == [0, 0]
    assert found["correct"], "the last writer continues at the positions"
    for reader in found["readers"]:
        assert reader["older"] == 0
        assert reader["exact"] > 0


@pytest.mark.slow
def test_four_processes_share_one_memory(shared_memory: Path) -> None:
    found = _run("share", shared_memory, 50_000, 376)
    assert sum(found["pss"]) <= 1.02 * found["used"] + 2**20
    assert found["used"] <= 2**30 * 50_000 / 1_000_000


def most_without_growth() -> int:
    """The most ads in the index of a new table."""
    geometry = Geometry.fit(rows_of({}).dtype.itemsize, MAX_BYTES)
    return next(ads for ads in itertools.count() if geometry.buckets_for(ads + 1) > MIN_BUCKETS)


class _KilledError(BaseException):
    """Ends a call where a kill would."""


def _killed(writer: Writer) -> None:
    """What the kernel does with the files of a killed process."""
    for fd in writer._locks:  # noqa: SLF001
        os.close(fd)
    writer._table.close()  # noqa: SLF001


def _apply_until(line: int, writer: Writer, *batch: Any) -> bool:
    """Applies a batch up to this line of the code of tables; whether it came to the end."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if "/streamer/tables/" not in frame.f_code.co_filename or "/tests/" in frame.f_code.co_filename:
            return None
        if event == "line":
            lines += 1
            if lines == line:
                raise _KilledError
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        writer.apply(*batch)
    except _KilledError:
        return False
    finally:
        sys.settrace(former)
    return True


def test_a_writer_killed_at_any_line_leaves_the_former_or_the_new_rows(tmp_path: Path) -> None:
    clock = Clock()
    store = store_in(tmp_path, clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    ids = [f"ad{number}" for number in range(12)]
    put(writer, dict.fromkeys(ids[:8], 1), position=1)
    writer.mark_ready()
    line, version, has_ended = 0, 1, False
    while not has_ended:
        line += 1
        former = dict(zip(ids, versions_in(reader, ids), strict=True))
        version += 1
        changed = dict.fromkeys(ids[2:9] if line % 2 else ids[2:8], version)
        deleted = ids[:2] if line % 2 else [ids[8]]
        clock.now += QUARANTINE_S
        batch = (list(changed), rows_of(changed), deleted, [version])
        has_ended = _apply_until(line, writer, *batch)
        new: dict[str, int | None] = {**former, **changed, **dict.fromkeys(deleted)}
        found = dict(zip(ids, versions_in(reader, ids), strict=True))
        assert all(found[ad_id] in {former[ad_id], new[ad_id]} for ad_id in ids)
        (position,) = reader.lookup(ids).position.offsets
        assert found == new or position < version
        _killed(writer)
        writer = opened(store)
        assert writer.state.positions == (position,)
        clock.now += QUARANTINE_S
        assert writer.apply(*batch) == []
        put(writer, {ids[0]: version, ids[1]: version}, position=version)
        model = {**new, ids[0]: version, ids[1]: version}
        assert versions_in(reader, ids) == list(model.values())
        assert writer.state.count == len([each for each in model.values() if each is not None])
    assert line > 50


def test_a_writer_killed_at_any_line_while_the_index_grows_loses_no_ad(tmp_path: Path) -> None:
    known = {f"ad{number}": 1 for number in range(most_without_growth())}
    new = {f"new{number}": 2 for number in range(3)}
    line, has_ended = 0, False
    while not has_ended:
        line += 1
        clock, folder = Clock(), tmp_path / str(line)
        store = store_in(folder, clock=clock)
        writer, reader = writer_of(store), reader_of(store)
        put(writer, known)
        writer.mark_ready()
        size = writer.state.used_bytes
        clock.now += QUARANTINE_S
        has_ended = _apply_until(line, writer, list(new), rows_of(new), [], [2])
        assert versions_in(reader, list(known)) == [1] * len(known)
        assert set(versions_in(reader, list(new))) <= {None, 2}
        _killed(writer)
        writer = opened(store)
        clock.now += QUARANTINE_S
        put(writer, new, position=2)
        assert versions_in(reader, [*known, *new]) == [1] * len(known) + [2] * len(new)
        assert writer.state.count == len(known) + len(new)
        assert writer.state.used_bytes > size
        writer.close()
        reader.close()
        store.discard()
        assert not list(folder.iterdir())
    assert line > 100


def test_a_lookup_finds_every_ad_while_the_index_grows_and_the_former_one_is_freed(shared_memory: Path) -> None:
    clock = Clock()
    store = store_in(shared_memory, clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    known = {f"ad{number}": 1 for number in range(most_without_growth())}
    put(writer, known)
    writer.mark_ready()
    former = reader._table.index  # noqa: SLF001  a lookup that began with it
    table, candidates, steps = reader._table, former.candidates, 0  # noqa: SLF001

    def slow(digests: U64) -> Places:
        nonlocal steps
        for _ in writer.reserve(len(known)):
            steps += 1
            assert versions_in(other, list(known)) == [1] * len(known)
        clock.now += QUARANTINE_S
        list(writer.reserve(0))
        assert not len(former.used(0, len(former))), "its pages are freed"
        return candidates(digests)

    other = reader_of(store)
    former.candidates = slow  # type: ignore[method-assign]
    assert versions_in(reader, list(known)) == [1] * len(known)
    assert steps > 1
    assert len(table.index) > len(former)
    (path,) = shared_memory.glob("*/table")
    assert path.stat().st_blocks * 512 <= writer.state.used_bytes + 2**20, "only one index has memory"
