"""TensorFlow Serving's version policies: which versions of a model to load and to unload.

Pure.
"""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from model_training.export.versions import version_number


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """The versions to serve: the `latest` newest, the `specific` ones, or all if both are None."""

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def aspired(self, on_disk: Collection[int]) -> frozenset[int]:
        if self.specific is not None:
            return self.specific & frozenset(on_disk)
        if self.latest is None:
            return frozenset(on_disk)
        return frozenset(sorted(on_disk, reverse=True)[: max(self.latest, 1)])


ALL_VERSIONS = VersionPolicy(latest=None)


class Phase(enum.Enum):
    """State of a version that the manager holds."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Plan:
    """The next actions.

    `load` is in the order of loading; `forget` has failed versions that are no longer aspired.
    """

    load: tuple[int, ...] = ()
    unload: tuple[int, ...] = ()
    forget: tuple[int, ...] = ()


def plan(on_disk: Collection[int], held: Mapping[int, Phase], policy: VersionPolicy) -> Plan:
    """TensorFlow Serving's AvailabilityPreservingPolicy: load the new version, unload the old.

    Invariants:
    - While an aspired version exists and none is ready, one ready old version stays.
    - No version is in two lists.
    - A held version is not loaded again: a failed version stays failed until it disappears from disk.
    - When all actions are done, the next plan is empty.
    """
    aspired = policy.aspired(on_disk)
    load = tuple(sorted(aspired - held.keys(), reverse=True))
    retired = sorted(version for version, phase in held.items() if phase is Phase.READY and version not in aspired)
    replaced = any(held.get(version) is Phase.READY for version in aspired)
    unload = retired if replaced or not aspired else retired[:-1]
    forget = (version for version, phase in held.items() if phase is Phase.FAILED and version not in aspired)
    return Plan(load=load, unload=tuple(unload), forget=tuple(sorted(forget)))


def versions_of(names: Iterable[str]) -> dict[int, str]:
    """Version → name of its entry, as TensorFlow Serving reads names; the last of two counts."""
    return {number: name for name in sorted(names) if (number := version_number(name)) is not None}
