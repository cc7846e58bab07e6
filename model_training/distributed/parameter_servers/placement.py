"""Which parameter server holds which variable: balanced by bytes, greedily, the largest first.

Each variable goes to the server that holds least so far. Of m servers the fullest then holds at most (4/3 - 1/(3m))
times what it would hold in the best of all placements, and at most the mean and (1 - 1/m) of the largest variable.
Graham: Bounds on Multiprocessing Timing Anomalies (1969), theorems 1 and 2. A variable that is larger than a server's
fair share has to be cut first (`partition`).
"""

from collections.abc import Mapping

Placement = dict[str, int]
"""Variable's name → index of its server."""


def greedy(sizes: Mapping[str, int], servers: int) -> Placement:
    """Places variables of `sizes` bytes on `servers` servers; the same for the same arguments, in whatever order."""
    loads = [0] * servers
    placement = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        lightest = loads.index(min(loads))
        placement[name] = lightest
        loads[lightest] += sizes[name]
    return placement


def round_robin(sizes: Mapping[str, int], servers: int) -> Placement:
    """Variables dealt in the order of `sizes`, whatever their bytes: TensorFlow's own default."""
    return {name: i % servers for i, name in enumerate(sizes)}


def loads(sizes: Mapping[str, int], placement: Mapping[str, int], servers: int) -> list[int]:
    """Bytes that each server holds."""
    held = [0] * servers
    for name, server in placement.items():
        held[server] += sizes[name]
    return held


def imbalance(held: list[int]) -> float:
    """Bytes of the fullest server / mean bytes of all: 1 is perfect, the number of servers is the worst."""
    return max(held) * len(held) / sum(held) if sum(held) else 1.0
