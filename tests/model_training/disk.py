"""A disk that is full, as far as some processes can tell."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def files_end_at(size: int, pids: Sequence[int] = (0,)) -> Iterator[None]:
    """No file can be written beyond `size` bytes: the system refuses the write, as it does on a full disk.

    Args:
        pids: of the processes that this holds for; 0 is this one.
    """
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    try:
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        for pid, limits in before.items():
            # What the refusal has ended needs no limits any more.
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
