"""Faults of one of three brokers: restarts, a lost node, moved leaders."""

import time
from collections.abc import Callable

from benchmarks.chaos.crashes import PARTITIONS
from benchmarks.chaos.excess import Outcomes, Window, delayed_share, delivered_in_all, over_runs
from benchmarks.chaos.machines import Machine, wait_until_settled
from benchmarks.chaos.scene import PROMPT, Chaos
from benchmarks.report import Figure
from sandbox.broker.cluster import KafkaCluster
from sandbox.broker.leaders import move_leaders

_WORKERS = {"supervisor.workers": 2, "supervisor.standby": 1}
_MOVES = 3
_BETWEEN_MOVES_S = 3.0
# Longer than the brokers' session timeout of 9 s, after which the other nodes lead the partitions of a lost one.
_WITHOUT_NODE_S = 15.0
_AFTER_S = 5.0
# Three new Java processes are slow at first.
_WARM_UP_S = 15.0
_CONTROL_S = 10.0


def rolling_brokers(chaos: Chaos) -> list[Figure]:
    """Three brokers are restarted one after the other, when all copies are in sync."""
    return _cluster(chaos, "rolling_brokers", lambda cluster, _: cluster.rolling_restart())


def lost_broker(chaos: Chaos) -> list[Figure]:
    """One of three brokers is killed by SIGKILL, and returns after 15 s."""

    def lose(cluster: KafkaCluster, run: int) -> None:
        node = cluster.nodes[run % len(cluster.nodes)]
        node.kill()
        time.sleep(_WITHOUT_NODE_S)
        node.start()
        cluster.wait_until_in_sync()

    return _cluster(chaos, "lost_broker", lose)


def moved_leaders(chaos: Chaos) -> list[Figure]:
    """The leaders of all partitions, internal ones included, move to other brokers, three times."""

    def move(cluster: KafkaCluster, _: int) -> None:
        for _move in range(_MOVES):
            move_leaders(cluster.internal_servers)
            time.sleep(_BETWEEN_MOVES_S)

    return _cluster(chaos, "moved_leaders", move)


def _cluster(chaos: Chaos, name: str, event: Callable[[KafkaCluster, int], None]) -> list[Figure]:
    """Traffic around the event, `times` times; `event` gets the number of the run."""
    shares, controls, delayed, durations, reports = [], [], [], [], []
    with (
        KafkaCluster() as cluster,
        chaos.scene(name, partitions=PARTITIONS, service=PROMPT, broker=cluster, overridden=_WORKERS) as scene,
    ):
        machine = Machine(scene.scorer, 2, 1)
        for run in range(chaos.settings.times):
            wait_until_settled([machine], PARTITIONS)
            began = ended = 0.0

            def meanwhile(run: int = run) -> None:
                nonlocal began, ended
                time.sleep(_WARM_UP_S + _CONTROL_S)
                began = time.monotonic()
                event(cluster, run)
                ended = time.monotonic()
                time.sleep(_AFTER_S)

            report = scene.traffic(meanwhile)
            window = Window(began, ended + _AFTER_S)
            outcomes = Outcomes.of(report)
            shares.append(1 - outcomes.within(window).ok_share)
            controls.append(1 - outcomes.within(Window(began - _CONTROL_S, began)).ok_share)
            delayed.append(delayed_share(report, window, chaos.settings.budget_ms))
            durations.append(ended - began)
            reports.append(report)
            text = f"{shares[-1]:.1%} not ok, {delayed[-1]:.1%} stored too late, {controls[-1]:.1%} not ok before"
            scene.say_run(run, text, report)
    return [
        *over_runs("not_ok_share", shares, "ratio"),
        *over_runs("not_ok_share_of_control", controls, "ratio"),
        *over_runs("stored_after_budget_share", delayed, "ratio"),
        *over_runs("event", durations, "s"),
        *delivered_in_all(reports, duplicates=chaos.may_duplicate),
    ]
