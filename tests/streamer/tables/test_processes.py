"""Several processes share a table, and the one that writes is killed."""

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

from streamer.tables.reader import QUARANTINE_S
from streamer.tables.writer import Writer
from tests.streamer.tables.stores import Clock, opened, put, reader_of, rows_of, store_in, versions_in, writer_of


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


class _KilledError(BaseException):
    """Ends a call where a kill would."""


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
        for fd in writer._locks:  # noqa: SLF001  as the kernel does for a killed process
            os.close(fd)
        writer = opened(store)
        assert writer.state.positions == (position,)
        clock.now += QUARANTINE_S
        assert writer.apply(*batch) == []
        put(writer, {ids[0]: version, ids[1]: version}, position=version)
        model = {**new, ids[0]: version, ids[1]: version}
        assert versions_in(reader, ids) == list(model.values())
        assert writer.state.count == len([each for each in model.values() if each is not None])
    assert line > 50
