"""The scorer is killed, stopped, or gets another member in its group."""

from benchmarks.chaos.scene import Chaos, delivered
from benchmarks.report import Figure
from sandbox.processes.scorer import ScorerProcess


def worker_kill(chaos: Chaos) -> list[Figure]:
    """The scorer is killed by SIGKILL and restarted."""
    with chaos.scene("worker_kill") as scene:

        def fault() -> None:
            scene.scorer.kill()
            scene.scorer.start()

        report = scene.traffic(scene.repeat(fault))
    return delivered(report, duplicates=chaos.settings.guarantee == "at_least_once")


def sigterm(chaos: Chaos) -> list[Figure]:
    """The scorer is stopped by SIGTERM and restarted: no answer may be duplicated."""
    unclean = 0
    with chaos.scene("sigterm") as scene:

        def fault() -> None:
            nonlocal unclean
            unclean += scene.scorer.stop() != 0
            scene.scorer.start()

        report = scene.traffic(scene.repeat(fault))
    return [*delivered(report, duplicates=False), Figure("unclean_ends", unclean, "ends", "<=", 0)]


def rebalances(chaos: Chaos) -> list[Figure]:
    """Another member joins and leaves the group, repeatedly."""
    with chaos.scene("rebalances") as scene:
        other = ScorerProcess(
            {**scene.overridden, "kafka.group_instance_id": "second"}, chaos.bench.work / "rebalances-other.log"
        )

        def fault() -> None:
            other.start()
            other.stop()

        try:
            report = scene.traffic(scene.repeat(fault))
        finally:
            other.stop()
    return delivered(report, duplicates=chaos.settings.guarantee == "at_least_once")
