"""Seeded plans of network faults, one after the other on one running system."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import psutil

from benchmarks.chaos.fault_plans import Plan, Side, plan_of
from benchmarks.chaos.scene import WARM_UP_S, Chaos, Scene, delivered
from benchmarks.report import Figure
from sandbox.host.tcp_proxy import TcpProxy
from sandbox.traffic.checker import Checker
from sandbox.traffic.sent_requests import SentRequests

RECOVERY_S = 20.0
_STEP_S = 0.25
_AT_LEAST_SCORED = 3
"""Requests that must be scored in a step, and no other answer may come, before the system counts as recovered."""
_RESIDENT_MB = 200.0
_GROWTH = 0.1
_WARM_UP_SHARE = 0.1
_HANDLES = 10
_SAID_EVERY = 25


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader outside of the scorer has seen until now."""

    scored: int
    others: int
    wrong: int
    duplicates: int
    dead_lettered: int

    @classmethod
    def of(cls, checker: Checker) -> Self:
        """The counts of a checker."""
        statuses, verdicts = dict(checker.statuses), checker.verdicts.copy()
        scored = statuses.pop("ok", 0)
        wrong = sum(n for verdict, n in verdicts.items() if verdict not in {"right", "duplicate"})
        dead_lettered = checker.sent_requests.dead_lettered
        return cls(scored, sum(statuses.values()), wrong, verdicts["duplicate"], dead_lettered)


def reasons(before: Seen, after: Seen, *, unanswered: int, recovered: bool) -> list[str]:
    """The reasons why the outcome of a plan is wrong; empty if it is right."""
    found = {
        "lost": unanswered,
        "wrong": after.wrong - before.wrong,
        # No process crashes, so also `at_least_once` permits none.
        "duplicate": after.duplicates - before.duplicates,
        "dead-lettered": after.dead_lettered - before.dead_lettered,
    }
    said = [f"{n} {name}" for name, n in found.items() if n]
    return said if recovered else [*said, f"not all requests are scored {RECOVERY_S:g} s after the plan"]


def plans(chaos: Chaos) -> list[Figure]:
    """Seeded plans of faults between scorer and broker, and between scorer and model server."""
    overridden = {"kafka.group_instance_id": "first", "cache.enabled": False}
    with chaos.scene("plans", broker_by_proxy=True, model_by_proxy=True, overridden=overridden) as scene:
        run = _Run(scene, Checker(SentRequests(), chaos.bench.world.ads.ids))
        report = scene.traffic(run.run_all, checker=run.checker)
        clean = scene.scorer.stop() == 0
    first = round(_WARM_UP_SHARE * len(run.resident))
    return [
        Figure("plans", len(run.resident) - 1, "plans", ">=", chaos.settings.times),
        Figure("plans_with_a_wrong_outcome", len(run.broken), "plans", "<=", 0),
        *delivered(report, duplicates=False),
        Figure("slowest_recovery", run.slowest_s, "s", "<=", RECOVERY_S),
        Figure("resident_at_most", max(run.resident) / 1e6, "MB", "<=", _RESIDENT_MB),
        Figure("resident_growth", run.resident[-1] / run.resident[first] - 1, "ratio", "<=", _GROWTH),
        Figure("descriptors_and_threads_growth", run.handles[-1] - run.handles[first], "", "<=", _HANDLES),
        Figure("clean_end", float(clean), "", ">=", 1),
    ]


class _Run:
    def __init__(self, scene: Scene, checker: Checker) -> None:
        self._scene = scene
        self._sides: Mapping[Side, TcpProxy] = {"broker": scene.chaos.proxy, "model_server": scene.to_server}
        self._process = psutil.Process(scene.scorer.pid)
        self.checker = checker
        self.resident: list[int] = []
        self.handles: list[int] = []
        self.broken: list[int] = []
        self.slowest_s = 0.0

    def run_all(self) -> None:
        """Runs the plans until one leaves the system without scores."""
        settings, console = self._scene.chaos.settings, self._scene.chaos.bench.console
        time.sleep(WARM_UP_S)
        self._sample()
        for seed in range(settings.seed, settings.seed + settings.times):
            plan = plan_of(seed)
            before = Seen.of(self.checker)
            execute(plan, self._sides)
            ended = time.monotonic()
            recovered = self._recovers(ended)
            self.slowest_s = max(self.slowest_s, time.monotonic() - ended)
            unanswered = 0 if recovered else self._unanswered(ended)
            if why := reasons(before, Seen.of(self.checker), unanswered=unanswered, recovered=recovered):
                self.broken.append(seed)
                console.print(f"{plan}\n  {'; '.join(why)}", markup=False, soft_wrap=True)
                console.print(f"  repeat it: python -m benchmarks.chaos plans --seed {seed}", markup=False)
            if not recovered:
                console.print(self._scene.scorer.log_tail(), markup=False, soft_wrap=True)
                return
            self._sample()
            if (done := len(self.resident) - 1) % _SAID_EVERY == 0:
                console.print(f"plans: {done} of {settings.times}, {len(self.broken)} wrong")

    def _sample(self) -> None:
        self.resident.append(self._process.memory_info().rss)
        self.handles.append(self._process.num_fds() + self._process.num_threads())

    def _recovers(self, ended: float) -> bool:
        """Whether requests from before `ended` are answered and later ones scored; waits for it."""
        before = Seen.of(self.checker)
        while time.monotonic() - ended < RECOVERY_S:
            time.sleep(_STEP_S)
            after = Seen.of(self.checker)
            scored, others = after.scored - before.scored, after.others - before.others
            if scored >= _AT_LEAST_SCORED and not others and not self._unanswered(ended):
                return True
            before = after
        return False

    def _unanswered(self, until: float) -> int:
        """The requests that were sent before `until` and have neither an answer nor a dead letter."""
        sent = self.checker.sent_requests
        return sum(request.sent_at < until for request in sent.without_answer()) - sent.dead_lettered


def execute(plan: Plan, sides: Mapping[Side, TcpProxy]) -> None:
    """Executes a plan; at the end no proxy has a fault."""
    began = time.monotonic()
    for change in plan.changes():
        time.sleep(max(0.0, began + change.at - time.monotonic()))
        proxy = sides[change.step.side]
        (proxy.begin if change.begins else proxy.end)(change.step.fault)
