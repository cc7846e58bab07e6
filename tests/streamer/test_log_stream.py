"""Standard error whose reader stalls, ends, or comes back."""

import errno
import os
import select
import subprocess
import sys
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from streamer.log_stream import LogStream
from tests.streamer.full_pipe import fill, full_pipe

WAIT_S = 30.0


class Drops:
    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> None:
        self.n += 1


def _read(reader: int, until: bytes) -> bytes:
    """What the reader gets until its text ends with `until`."""
    found = b""
    while not found.endswith(until):
        assert select.select([reader], [], [], WAIT_S)[0], found[-1000:]
        found += os.read(reader, 1 << 16)
    return found.lstrip(b"-")


def test_lines_arrive_in_their_order() -> None:
    with full_pipe() as (reader, writer):
        stream = LogStream(writer, Drops())
        for n in range(1000):
            print(n, file=stream)
        assert _read(reader, b"\n999\n") == b"".join(b"%d\n" % n for n in range(1000))
        stream.flush()
        assert repr(stream).endswith("0 bytes wait, 0 lines missing>")


def test_a_stalled_reader_stops_nobody_and_the_lines_beyond_the_bound_are_counted() -> None:
    drops = Drops()
    with full_pipe() as (reader, writer), capture_logs() as events:
        stream = LogStream(writer, drops, max_bytes=100)
        for n in range(50):
            stream.write(f"line {n:04d}\n")
        assert drops.n == 40
        assert stream.write("\N{SNOWMAN}" * 34) == 34, "bytes count, not characters"
        assert drops.n == 41
        assert _read(reader, b"line 0009\n").count(b"\n") == 10
        stream.flush()
        stream.write("again\n")
        assert _read(reader, b"again\n") == b"again\n"
        stream.flush()
    assert events == [{"event": "log lines dropped", "lines": 41, "log_level": "warning"}]


def test_a_line_that_never_fits_is_dropped_and_the_next_one_is_written() -> None:
    drops = Drops()
    with full_pipe() as (reader, writer):
        stream = LogStream(writer, drops, max_bytes=100)
        stream.write("x" * 101)
        stream.write("short\n")
        assert _read(reader, b"short\n") == b"short\n"
    assert drops.n == 1


def test_a_reader_that_ends_costs_the_lines_and_nothing_else() -> None:
    drops = Drops()
    reader, writer = os.pipe()
    os.close(reader)
    stream = LogStream(writer, drops)
    for n in range(3):
        stream.write(f"{n}\n")
        stream.flush()
    assert drops.n == 3
    os.close(writer)


def test_a_full_disk_costs_the_lines_and_nothing_else() -> None:
    drops, full = Drops(), os.open("/dev/full", os.O_WRONLY)
    stream = LogStream(full, drops)
    for n in range(3):
        stream.write(f"{n}\n")
    stream.flush()
    assert drops.n == 3
    os.close(full)


def test_after_a_full_disk_one_line_says_how_many_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that itself cannot be written causes no further warning."""
    reader, writer = os.pipe()
    drops, full = Drops(), [True]

    def write(descriptor: int, data: bytes, really: Callable[[int, bytes], int] = os.write) -> int:
        if descriptor == writer and full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    stream = LogStream(writer, drops)
    with capture_logs() as events:
        for n in range(3):
            stream.write(f"{n}\n")
        stream.flush()
        full[0] = False
        stream.write("again\n")
        assert _read(reader, b"again\n") == b"again\n"
        stream.flush()
        stream.write("more\n")
        stream.flush()
    assert events == [{"event": "log lines dropped", "lines": 3, "log_level": "warning"}]
    os.close(reader)
    os.close(writer)


def test_a_descriptor_that_another_process_made_non_blocking_loses_nothing() -> None:
    with full_pipe() as (reader, writer):
        os.set_blocking(writer, False)
        stream = LogStream(writer, Drops())
        text = "x" * 200_000 + "\n"
        stream.write(text)
        assert _read(reader, b"\n") == text.encode()


_FAILS = """
from streamer.log_stream import replace_stderr
replace_stderr(lambda: None)
raise RuntimeError("the reason")
"""


@pytest.mark.parametrize("stalled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_process_ends_with_its_traceback_unless_nobody_reads_it(stalled: bool) -> None:
    reader, writer = os.pipe()
    if stalled:
        fill(writer)
    assert subprocess.run([sys.executable, "-c", _FAILS], stderr=writer, timeout=WAIT_S, check=False).returncode == 1
    os.close(writer)
    if not stalled:
        assert _read(reader, b"RuntimeError: the reason\n").startswith(b"Traceback")
    os.close(reader)
