"""Keys, partitions and their workers."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sandbox.world.population import F64, zipf
from streamer.supervision.sharing import share


@lru_cache(maxsize=4)
def user_shares(users: int, exponent: float) -> F64:
    """The share of the requests of each user, float64 [users], by Zipf's law; 0: all equal."""
    weights = zipf(users, exponent)
    shares: F64 = weights / weights.sum()
    return shares


def partition_shares(partitions: int, users: int, exponent: float, seed: int) -> F64:
    """The share of the requests in each partition, float64 [partitions], by a hash of the user."""
    at = np.random.default_rng(seed).integers(0, partitions, users)
    return np.bincount(at, weights=user_shares(users, exponent), minlength=partitions).astype(np.float64)


def owners(partitions: int, workers: int, machine_workers: int) -> list[int]:
    """The worker of each partition.

    Kafka's group gives the machines equally many partitions in turns, and each supervisor shares its own among its
    workers as the scorer does.
    """
    machines = [range(first, min(first + machine_workers, workers)) for first in range(0, workers, machine_workers)]
    found = [0] * partitions
    for number, machine in enumerate(machines):
        own = {("", partition) for partition in range(number, partitions, len(machines))}
        for worker, held in share(own, dict.fromkeys(machine, 0), {}).items():
            for _, partition in held:
                found[partition] = worker
    return found


def imbalance(shares: F64, owner: Sequence[int], workers: int) -> float:
    """The load of the worker with the highest load over the mean load."""
    return float(np.bincount(owner, weights=shares, minlength=workers).max() * workers / shares.sum())
