"""A pipe whose reader has stalled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that accepts no further byte: reader and writer."""
    reader, writer = os.pipe()
    try:
        fill(writer)
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def fill(writer: int) -> None:
    """Writes until the pipe accepts no further byte."""
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"-" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
