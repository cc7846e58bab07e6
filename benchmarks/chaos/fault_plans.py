"""Plans of network faults, each from a seed. Pure."""

import random
from dataclasses import dataclass
from typing import Literal

from sandbox.host.network_faults import Cut, Delay, Duplicate, NetworkFault, Throttle, Truncate

LONGEST_S = 2.0
_SHORTEST_S = 0.3
_MOST_STEPS = 4
# Shorter than every request of Kafka's protocol: TCP never repeats a request, so the copy must not contain one.
_KAFKA_BEGINNING = 16
# Whole calls of gRPC may reach a model server twice.
_GRPC_BEGINNING = 1 << 16

Side = Literal["broker", "model_server"]
"""The connection that has the fault: between scorer and broker, or between scorer and model server."""


@dataclass(frozen=True, slots=True)
class Step:
    """A fault on one side, `at` seconds after the begin of the plan, for `seconds`."""

    at: float
    side: Side
    fault: NetworkFault
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:.2f} s to {self.at + self.seconds:.2f} s, {self.side}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Change:
    """The begin or the end of a step, `at` seconds after the begin of the plan."""

    at: float
    begins: bool
    step: Step


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order of their begin; they may overlap. The last one ends within `LONGEST_S`."""

    seed: int
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "\n".join([f"plan {self.seed}:", *(f"  {step}" for step in self.steps)])

    def changes(self) -> list[Change]:
        """Begin and end of each step, in the order of time."""
        found = [Change(step.at, True, step) for step in self.steps]
        found += [Change(step.at + step.seconds, False, step) for step in self.steps]
        return sorted(found, key=lambda change: change.at)


def plan_of(seed: int) -> Plan:
    """The plan of a seed; the same in every run."""
    rng = random.Random(seed)
    length = rng.uniform(_SHORTEST_S, LONGEST_S)
    steps = []
    for _ in range(rng.randint(1, _MOST_STEPS)):
        begin, end = sorted((rng.uniform(0, length), rng.uniform(0, length)))
        side: Side = rng.choice(("broker", "model_server"))
        steps.append(Step(begin, side, _fault(rng, side), end - begin))
    return Plan(seed, tuple(sorted(steps, key=lambda step: step.at)))


def _fault(rng: random.Random, side: Side) -> NetworkFault:
    match rng.choice((Delay, Cut, Truncate, Duplicate, Throttle)).__name__:
        case "Delay":
            return Delay(_spread(rng, 0.005, 0.5))
        case "Cut":
            return Cut()
        case "Truncate":
            return Truncate(round(_spread(rng, 1, 1 << 14)) - 1)
        case "Duplicate":
            return Duplicate(round(_spread(rng, 1, _KAFKA_BEGINNING if side == "broker" else _GRPC_BEGINNING)))
        case _:
            return Throttle(_spread(rng, 1e4, 1e6))


def _spread(rng: random.Random, least: float, most: float) -> float:
    """A value whose logarithm is uniform."""
    return float(least * (most / least) ** rng.random())
