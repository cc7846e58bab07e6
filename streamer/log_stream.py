"""Standard error that never blocks the process."""

import atexit
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO, cast

import structlog

_MAX_BYTES = 1 << 20
_FLUSH_S = 1.0


class LogStream(io.TextIOBase):
    """Text that its own thread writes to a descriptor, so that `write` returns at once.

    A reader that stalls (a full pipe, a stopped terminal, a hung disk) would otherwise stop the event loop.

    1. At most `max_bytes` wait. A line that does not fit is dropped and counted.
    2. The order of the other lines is kept.
    3. When lines can be written again, one line says how many are missing.

    Args:
        dropped: is called once for each dropped line, in any thread.
    """

    def __init__(self, descriptor: int, dropped: Callable[[], object], max_bytes: int = _MAX_BYTES) -> None:
        self._descriptor = descriptor
        self._on_drop = dropped
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = self._missing = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def __repr__(self) -> str:
        return f"<LogStream {self._descriptor}, {self._bytes} bytes wait, {self._missing} lines missing>"

    def fileno(self) -> int:
        """The descriptor that receives the text."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str, /) -> int:
        """Takes or drops a line; returns its length."""
        line = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._bytes + len(line) > self._max_bytes:
                self._drop()
            else:
                self._lines.append(line)
                self._bytes += len(line)
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Waits until all lines are written, at most 1 s."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, _FLUSH_S)

    def _drop(self) -> None:
        self._missing += 1
        self._on_drop()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines[0]
            written = self._put(line)
            with self._changed:
                missing = self._missing if written and len(self._lines) == 1 else 0
                self._missing -= missing
            if missing:
                # Without the lock: a logger has its own one, and holds it when it calls `write`.
                structlog.get_logger("streamer").warning("log lines dropped", lines=missing)
            with self._changed:
                self._lines.popleft()
                self._bytes -= len(line)
                if not written:
                    self._drop()
                self._changed.notify_all()

    def _put(self, line: bytes) -> bool:
        """Writes a line, however long that takes; False: the disk is full or the reader has ended."""
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # Another process with the same descriptor made it non-blocking.
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


def replace_stderr(dropped: Callable[[], object]) -> None:
    """Makes `sys.stderr` a `LogStream` until the process ends, for logs and tracebacks alike."""
    if sys.__stderr__ is None:
        return  # Closed by the parent: the descriptor may belong to a connection by now.
    stream = LogStream(sys.__stderr__.fileno(), dropped)
    sys.stderr = cast(TextIO, stream)
    atexit.register(_restore, stream)


def _restore(stream: LogStream) -> None:
    stream.flush()
    sys.stderr = sys.__stderr__
