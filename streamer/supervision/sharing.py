"""Shares partitions among active workers. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping
from math import ceil

from streamer.types import Partition


def share(
    free: Collection[Partition], loads: Mapping[int, int], last: Mapping[Partition, int]
) -> dict[int, set[Partition]]:
    """Gives each free partition to one worker; the shares differ as little as possible.

    A partition returns to the worker that had it last, as far as the shares stay equal: that worker's cache has the
    scores of its users.

    Args:
        loads: the number of partitions of each worker; not empty.
        last: the last worker of partitions.

    Returns:
        The partitions of each worker that gets one.
    """
    counts, returning = dict(loads), Counter(last.get(partition) for partition in free)
    room: Counter[int] = Counter()
    for _ in free:
        # Among the least loaded workers, one that had more of the partitions comes first.
        number = min(counts, key=lambda n: (counts[n], room[n] - returning[n], n))
        counts[number] += 1
        room[number] += 1
    found: dict[int, set[Partition]] = {}
    homeless = []
    for partition in sorted(free):
        number = last.get(partition, -1)
        if room[number] > 0:
            room[number] -= 1
            found.setdefault(number, set()).add(partition)
        else:
            homeless.append(partition)
    for partition, number in zip(homeless, room.elements(), strict=True):
        found.setdefault(number, set()).add(partition)
    return found


def surplus(held: Mapping[int, Collection[Partition]]) -> tuple[int, set[Partition]] | None:
    """The worker with the most partitions, and those that another should have.

    None if the shares differ by at most one. `share` gives none of them back to this worker.
    """
    if not held:
        return None
    most = max(held, key=lambda n: (len(held[n]), n))
    count, fewest = len(held[most]), min(len(partitions) for partitions in held.values())
    if count - fewest <= 1:
        return None
    fair = ceil(sum(len(partitions) for partitions in held.values()) / len(held))
    return most, set(sorted(held[most])[-max(1, count - fair) :])
