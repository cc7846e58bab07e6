"""Assigns variables to parameter servers, balanced by bytes; pure.

The assignment is greedy, the largest variable first. Each variable goes to the server with the fewest bytes so far. Of
m servers the fullest then has at most (4/3 - 1/(3m)) times its bytes in the best assignment, and at most the mean plus
(1 - 1/m) of the largest variable. Graham: Bounds on Multiprocessing Timing Anomalies (1969), theorems 1 and 2. A
variable that is larger than a server's fair share must be cut first (`partition`).
"""

from collections.abc import Mapping

Placement = dict[str, int]
"""Variable name → index of its server."""


def greedy(sizes: Mapping[str, int], servers: int) -> Placement:
    """Assigns variables of `sizes` bytes to servers; the order of `sizes` does not matter."""
    loads = [0] * servers
    placement = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        lightest = loads.index(min(loads))
        placement[name] = lightest
        loads[lightest] += sizes[name]
    return placement


def round_robin(sizes: Mapping[str, int], servers: int) -> Placement:
    """Assigns variables in turn, in order and without regard to bytes: TensorFlow's default."""
    return {name: i % servers for i, name in enumerate(sizes)}


def loads(sizes: Mapping[str, int], placement: Mapping[str, int], servers: int) -> list[int]:
    """Bytes on each server."""
    held = [0] * servers
    for name, server in placement.items():
        held[server] += sizes[name]
    return held


def imbalance(held: list[int]) -> float:
    """Bytes of the fullest server / mean bytes, from 1 (best) to the number of servers."""
    return max(held) * len(held) / sum(held) if sum(held) else 1.0
