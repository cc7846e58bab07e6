"""When a model counts as one that cannot be scored."""

import asyncio

import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamer.assembly import Assembly
from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.rollout.scoring_health import OUTAGE_S, ScoringHealth
from streamer.settings import Settings
from streamer.testing.model_servers import Loaded, VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import F32, Availability, BatchInputs, ModelVersion
from tests.streamer.rollout.switching import ONE_SPEC, Worker


def test_calls_that_fail_for_long_are_an_outage_until_one_succeeds() -> None:
    health = ScoringHealth()
    for second in range(int(OUTAGE_S) + 1):
        assert health.outage(second) is None
        health.call_failed(float(second), "UNAVAILABLE: no route")
    assert health.outage(OUTAGE_S) == "for 10 s: UNAVAILABLE: no route"
    health.scored(OUTAGE_S + 1)
    assert health.outage(OUTAGE_S + 1) is None


def test_rare_failures_are_no_outage() -> None:
    health = ScoringHealth()
    for hour in range(3):
        health.call_failed(hour * 3600.0, "DEADLINE_EXCEEDED")
        assert health.outage(hour * 3600.0 + OUTAGE_S) is None


def test_an_outage_of_calls_is_forgotten_when_no_call_follows() -> None:
    health = ScoringHealth()
    health.call_failed(0.0, "DEADLINE_EXCEEDED")
    health.call_failed(OUTAGE_S, "DEADLINE_EXCEEDED")
    assert health.outage(2 * OUTAGE_S) is not None
    assert health.outage(5 * OUTAGE_S) is None


def test_failed_polls_are_an_outage_of_an_idle_worker() -> None:
    health = ScoringHealth()
    health.polled()
    health.poll_failed(5.0, "UNAVAILABLE: refused")
    health.poll_failed(14.0, "UNAVAILABLE: refused")
    assert health.outage(14.0) is None
    health.poll_failed(15.0, "UNAVAILABLE: refused")
    assert health.outage(15.0) == "for 10 s: UNAVAILABLE: refused"
    health.polled()
    assert health.outage(16.0) is None


def test_a_worker_that_scores_is_ready_although_its_polls_fail() -> None:
    health = ScoringHealth()
    for second in range(60):
        health.poll_failed(second, "UNIMPLEMENTED")
        health.scored(second)
        assert health.outage(second) is None
    assert health.outage(70.0) is not None


def test_a_successful_poll_does_not_hide_failing_calls() -> None:
    """Variables that are missing: the version is AVAILABLE, and each call fails."""
    health = ScoringHealth()
    for second in range(20):
        health.polled()
        health.call_failed(second, "FAILED_PRECONDITION")
    assert health.outage(20.0) == "for 20 s: FAILED_PRECONDITION"


@given(st.lists(st.tuples(st.sampled_from(["scored", "call", "polled", "poll"]), st.floats(0, 20)), max_size=40))
def test_no_outage_within_ten_seconds_of_a_scored_call(events: list[tuple[str, float]]) -> None:
    health, now, scored_at = ScoringHealth(), 0.0, float("-inf")
    for kind, pause in events:
        now += pause
        match kind:
            case "scored":
                health.scored(now)
                scored_at = now
            case "call":
                health.call_failed(now, "x")
            case "polled":
                health.polled()
            case _:
                health.poll_failed(now, "x")
        if now - scored_at < OUTAGE_S:
            assert health.outage(now) is None


class StoppedServers(VirtualServers):
    """Servers that answer nothing while `stopped`."""

    stopped = False

    async def available(self, model: str) -> Availability:
        if self.stopped:
            raise PredictError("UNAVAILABLE", "refused")
        return await super().available(model)


@virtual
async def test_a_worker_names_the_outage_of_its_model_servers_and_its_end() -> None:
    """Under load, by its calls; then idle, by its polls."""
    servers = StoppedServers([{1: Loaded(ONE_SPEC)}])
    worker = Worker(servers)
    await worker.start()
    await worker.traffic(1.0, every_s=0.1)
    assert worker.models.outage() is None

    servers.servers[0][1].fault = "UNAVAILABLE"
    await worker.traffic(OUTAGE_S + 2, every_s=0.1)
    assert str(worker.models.outage()).startswith("no scores of ctr for 1")
    servers.servers[0][1].fault = None
    await worker.traffic(1.0, every_s=0.1)
    assert worker.models.outage() is None

    servers.stopped = True
    await asyncio.sleep(OUTAGE_S + 2)  # of the virtual clock
    assert str(worker.models.outage()).endswith("UNAVAILABLE: refused")
    servers.stopped = False
    await asyncio.sleep(1.0)
    assert worker.models.outage() is None


@virtual
async def test_a_defect_that_a_version_triggers_is_an_outage_or_its_end() -> None:
    class Defective(VirtualServers):
        async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
            if version.version == 2 and seconds < 1:  # no warm-up
                raise IndexError("a defect")
            return await super().score(version, inputs, seconds)

    with capture_logs():  # each trace takes long to render
        worker = Worker(Defective([{2: Loaded(ONE_SPEC)}]))
        await worker.start()
        await worker.traffic(OUTAGE_S + 3, every_s=1.0)
        assert "IndexError('a defect')" in str(worker.models.outage())

        servers = Defective([{1: Loaded(ONE_SPEC)}])
        worker = Worker(servers)
        await worker.start()
        await worker.traffic(0.5, every_s=0.05)
        servers.servers[0][2] = Loaded(ONE_SPEC)
        await worker.traffic(3.0, every_s=0.05)
        answers = await worker.settle()
        assert worker.model.describe()["rolled_back"] == [2]
        assert answers[-1]["status"] == "ok"


@virtual
async def test_one_of_two_models_without_scores_is_no_outage() -> None:
    settings = Settings.model_validate({"predictor": {"models": ["ctr", "cvr"]}})
    loop = asyncio.get_running_loop()
    assembly = Assembly(settings, Metrics(), structlog.get_logger(), loop.time, lambda work, _: loop.create_task(work))
    models = assembly.models(VirtualServers([{1: Loaded(ONE_SPEC)}]), None)
    failure = PredictError("UNAVAILABLE", "refused")
    for names in (("cvr",), ("ctr", "cvr")):
        assert models.outage() is None
        for name in names:
            models.call_failed(ModelVersion(name, 1), failure)
        await asyncio.sleep(OUTAGE_S)
        for name in names:
            models.call_failed(ModelVersion(name, 1), failure)
    assert models.outage() == "no scores of ctr for 10 s: UNAVAILABLE: refused"
