"""Which versions of a model to load and which to unload: TensorFlow Serving's policies, as pure functions."""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions on disk shall be served: the `latest` newest, the `specific` ones, or with neither all."""

    latest: int | None = 1
    specific: frozenset[int] = field(default_factory=frozenset)

    def aspired(self, on_disk: Collection[int]) -> frozenset[int]:
        if self.specific:
            return self.specific & frozenset(on_disk)
        if self.latest is None:
            return frozenset(on_disk)
        return frozenset(sorted(on_disk, reverse=True)[: max(self.latest, 1)])


ALL_VERSIONS = VersionPolicy(latest=None)


class Phase(enum.Enum):
    """Where a version that the manager holds stands."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `load` is in the order of loading; `forget` are failed versions nobody wants any more."""

    load: tuple[int, ...] = ()
    unload: tuple[int, ...] = ()
    forget: tuple[int, ...] = ()


def plan(on_disk: Collection[int], held: Mapping[int, Phase], policy: VersionPolicy) -> Plan:
    """TensorFlow Serving's AvailabilityPreservingPolicy: load the new before the old is unloaded.

    Invariants: (1) while an aspired version exists and none is ready, one ready old version stays; (2) no version
    is in two lists; (3) what is already held is not loaded again, so a failed version stays failed until it is gone
    from disk; (4) once all is done, a further plan is empty.
    """
    aspired = policy.aspired(on_disk)
    load = tuple(sorted(aspired - held.keys(), reverse=True))
    retired = sorted(version for version, phase in held.items() if phase is Phase.READY and version not in aspired)
    replaced = any(held.get(version) is Phase.READY for version in aspired)
    unload = retired if replaced or not aspired else retired[:-1]
    forget = (version for version, phase in held.items() if phase is Phase.FAILED and version not in aspired)
    return Plan(load=load, unload=tuple(unload), forget=tuple(sorted(forget)))


def versions_of(names: Iterable[str]) -> dict[int, str]:
    """Version → folder name, of the names that are whole numbers (zero-padded ones too); others are skipped."""
    return {int(name): name for name in sorted(names) if name.isascii() and name.isdigit() and int(name) < 2**63}
