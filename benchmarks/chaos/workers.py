"""The scorer is killed, ended, or has company in its group."""

from benchmarks.chaos.scene import Chaos, delivered
from benchmarks.report import Figure
from sandbox.scorer import ScorerProcess


def worker_kill(chaos: Chaos) -> list[Figure]:
    """SIGKILL, and a start anew."""
    with chaos.scene("worker_kill") as scene:

        def fault() -> None:
            scene.scorer.kill()
            scene.scorer.start()

        report = scene.drive(scene.repeat(fault))
    return delivered(report, duplicates=chaos.settings.guarantee == "at_least_once")


def sigterm(chaos: Chaos) -> list[Figure]:
    """A clean end and a start anew: nothing may be repeated either."""
    unclean = 0
    with chaos.scene("sigterm") as scene:

        def fault() -> None:
            nonlocal unclean
            unclean += scene.scorer.stop() != 0
            scene.scorer.start()

        report = scene.drive(scene.repeat(fault))
    return [*delivered(report, duplicates=False), Figure("unclean_ends", unclean, "ends", "<=", 0)]


def rebalances(chaos: Chaos) -> list[Figure]:
    """Another member joins and leaves again and again."""
    with chaos.scene("rebalances") as scene:
        other = ScorerProcess(
            {**scene.overridden, "kafka.group_instance_id": "second"}, chaos.bench.work / "rebalances-other.log"
        )

        def fault() -> None:
            other.start()
            other.stop()

        try:
            report = scene.drive(scene.repeat(fault))
        finally:
            other.stop()
    return delivered(report, duplicates=chaos.settings.guarantee == "at_least_once")
