"""The bounded queue of side outputs."""

import asyncio
from dataclasses import dataclass

import pytest
import structlog

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.side_outputs.side_output import SideOutput
from streamer.testing.virtual_loop import virtual


@dataclass(frozen=True)
class Limits:
    max_queued_requests: int = 2
    timeout_ms: float = 1000.0


class Rig:
    """A side output whose runs are recorded."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.metrics = Metrics()
        self.is_busy = False
        self.done: list[str] = []
        self.output = SideOutput(limits, self.metrics.shadow, structlog.get_logger(), is_busy=lambda: self.is_busy)

    def add(self, name: str, *, seconds: float = 0.1, error: Exception | None = None, size: int = 0) -> None:
        async def work() -> None:
            await asyncio.sleep(seconds)  # of the virtual clock
            if error is not None:
                raise error
            self.done.append(name)

        self.output.add(name, work, size)

    @property
    def counts(self) -> dict[str, float]:
        value = self.metrics.registry.get_sample_value
        outcomes = ("published", "failed", "dropped")
        return {o: value("streamer_shadow_requests_total", {"outcome": o}) or 0.0 for o in outcomes}


@virtual
async def test_requests_are_worked_on_one_at_a_time_and_in_their_order() -> None:
    rig, loop = Rig(), asyncio.get_running_loop()
    start = loop.time()
    for name in ("a", "b"):
        rig.add(name)
    running = asyncio.create_task(rig.output.run())
    await asyncio.sleep(1.0)  # of the virtual clock
    running.cancel()
    assert rig.done == ["a", "b"]
    assert loop.time() == start + 1.0
    assert rig.counts == {"published": 2, "failed": 0, "dropped": 0}


@virtual
async def test_a_full_queue_drops_and_counts() -> None:
    rig = Rig()
    for name in ("a", "b", "beyond", "beyond"):
        rig.add(name)
    assert rig.counts == {"published": 0, "failed": 0, "dropped": 2}


@pytest.mark.parametrize(
    "error", [PredictError("INTERNAL", "as told"), TimeoutError(), TypeError("not UTF-8"), IndexError("a defect")]
)
def test_a_failure_is_counted_and_the_next_request_follows(error: Exception) -> None:
    @virtual
    async def run() -> None:
        rig = Rig()
        rig.add("bad", error=error)
        rig.add("good")
        running = asyncio.create_task(rig.output.run())
        await asyncio.sleep(1.0)  # of the virtual clock
        running.cancel()
        assert rig.done == ["good"]
        assert rig.counts == {"published": 1, "failed": 1, "dropped": 0}

    run()


@virtual
async def test_work_that_takes_too_long_fails() -> None:
    rig = Rig(Limits(timeout_ms=500.0))
    rig.add("slow", seconds=60.0)
    rig.add("quick")
    running = asyncio.create_task(rig.output.run())
    await asyncio.sleep(1.0)  # of the virtual clock
    running.cancel()
    assert rig.done == ["quick"]
    assert rig.counts == {"published": 1, "failed": 1, "dropped": 0}


@virtual
async def test_while_live_requests_wait_nothing_is_done() -> None:
    rig = Rig()
    rig.is_busy = True
    rig.add("early")
    running = asyncio.create_task(rig.output.run())
    await asyncio.sleep(1.0)  # of the virtual clock
    rig.is_busy = False
    rig.add("late")
    await asyncio.sleep(1.0)  # of the virtual clock
    running.cancel()
    assert rig.done == ["late"]
    assert rig.counts == {"published": 1, "failed": 0, "dropped": 1}


@virtual
async def test_the_queue_is_bounded_in_bytes() -> None:
    rig = Rig(Limits(max_queued_requests=100))
    for name in ("a", "b", "c"):
        rig.add(name, size=7 * 2**20)
    running = asyncio.create_task(rig.output.run())
    await asyncio.sleep(1.0)  # of the virtual clock
    rig.add("d", size=7 * 2**20)
    await asyncio.sleep(1.0)  # of the virtual clock
    running.cancel()
    assert rig.done == ["a", "b", "d"]
    assert rig.counts == {"published": 3, "failed": 0, "dropped": 1}
