"""Shares partitions among active workers. Pure."""

from collections.abc import Collection, Mapping
from math import ceil

from streamer.types import Partition


def share(
    free: Collection[Partition], loads: Mapping[int, int], last: Mapping[Partition, int]
) -> dict[int, set[Partition]]:
    """Gives each free partition to one worker, so that the numbers of partitions differ as little as possible.

    A partition returns to the worker that had it last, as far as the shares stay equal: that worker's cache has the
    scores of its users.

    Args:
        loads: the number of partitions of each worker; not empty.
        last: the last worker of partitions.

    Returns:
        The partitions of each worker that gets one.
    """
    found: dict[int, set[Partition]] = {}
    counts = dict(loads)
    most = ceil((sum(counts.values()) + len(free)) / len(counts))
    # Those that can return come first.
    for partition in sorted(free, key=lambda p: (last.get(p) not in counts, p)):
        number = last.get(partition, -1)
        if counts.get(number, most) >= most:
            number = min(counts, key=lambda n: (counts[n], n))
        counts[number] += 1
        found.setdefault(number, set()).add(partition)
    return found


def surplus(held: Mapping[int, Collection[Partition]]) -> tuple[int, set[Partition]] | None:
    """The worker with the most partitions, and those that another should have; None if they differ by at most one."""
    if not held:
        return None
    most = max(held, key=lambda n: (len(held[n]), n))
    fewest = min(len(partitions) for partitions in held.values())
    count = (len(held[most]) - fewest) // 2
    return (most, set(sorted(held[most])[-count:])) if count else None
