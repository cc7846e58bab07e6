"""Simulates a full disk for some processes."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def files_end_at(size: int, pids: Sequence[int] = (0,)) -> Iterator[None]:
    """Limits files to `size` bytes: the system rejects further writes, as on a full disk.

    Args:
        pids: the processes with this limit; 0 is this process.
    """
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    try:
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        for pid, limits in before.items():
            # A process that the rejection ended needs no limits.
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
