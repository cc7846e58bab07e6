"""A version number that names another object than before: no wrong scores, and no outage."""

import asyncio
from typing import Any

import numpy as np

from streamer.errors import PredictError
from streamer.serving.identity import Shown
from streamer.testing.model_servers import Loaded, VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import BatchInputs, ModelVersion
from tests.streamer.rollout.switching import ANOTHER_SPEC, ONE_SPEC, Worker, loaded

SHIFT = 5e-6
"""Half of the smallest difference of two scores of one version."""


def is_shifted(answer: dict[str, Any]) -> bool:
    """Whether the scores of an answer are those of a version with `SHIFT`."""
    halves = {round(ctr * 2e5) % 2 for ctr in answer["ctr"]}
    assert len(halves) == 1
    return halves == {1}


async def later(seconds: float) -> None:
    await asyncio.sleep(seconds)  # of the virtual clock


async def restarted(worker: Worker, replaced: Loaded, down_s: float = 0.1) -> None:
    """A server restarts under traffic, with another object as version 1."""
    traffic = asyncio.create_task(worker.traffic(0.4))
    await later(0.1)
    del worker.servers.servers[0][1]
    await later(down_s)
    worker.servers.servers[0][1] = replaced
    await traffic
    # Calls between the server's return and the next poll still have the rows of the old spec, and fail.
    assert worker.servers.misfits < 50
    worker.servers.misfits = 0
    await worker.traffic(0.3)


@virtual
async def test_another_spec_under_the_same_number_gets_its_own_rows() -> None:
    servers = VirtualServers([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    await restarted(worker, Loaded(ANOTHER_SPEC))
    answers = await worker.settle()
    assert {answer["status"] for answer in answers[-100:]} == {"ok"}
    assert worker.model.serving_for(None).encoder.spec.name == ANOTHER_SPEC.name


@virtual
async def test_scores_of_other_weights_under_the_same_number_do_not_come_from_the_cache() -> None:
    servers = VirtualServers([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    await restarted(worker, Loaded(ONE_SPEC, shift=SHIFT))
    answers = await worker.settle()
    assert {answer["status"] for answer in answers[-100:]} == {"ok"}
    assert not any(map(is_shifted, answers[:40]))
    assert all(map(is_shifted, answers[-100:]))
    assert any("cache" in answer["source"] for answer in answers[-100:])


@virtual
async def test_a_replacement_that_no_poll_and_no_call_notices_is_found_within_ten_seconds() -> None:
    servers = VirtualServers([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    servers.servers[0][1] = Loaded(ONE_SPEC, shift=SHIFT)
    before = worker.model.serving_for(None)
    await later(10.1)
    assert worker.model.serving_for(None).version != before.version
    prepared = len(servers.warmed)
    await later(60)
    assert len(servers.warmed) == prepared, "it is prepared once"


@virtual
async def test_half_a_version_under_the_same_number_is_left_for_another_version() -> None:
    servers = VirtualServers([loaded(1, 2)])
    worker = Worker(servers)
    await worker.start()
    servers.servers[0][2] = Loaded(ONE_SPEC, fault="FAILED_PRECONDITION")
    await worker.traffic(0.3)
    answers = await worker.settle()
    assert {answer["model"]["version"] for answer in answers[-50:]} == {1}
    assert {answer["status"] for answer in answers[-50:]} == {"ok"}
    assert worker.model.describe()["bad"] == {"2": "FAILED_PRECONDITION: injected fault"}
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await later(31)
    assert (worker.model.describe()["serving"], worker.model.describe()["bad"]) == (2, {})


@virtual
async def test_the_only_version_scores_again_as_soon_as_its_calls_succeed() -> None:
    servers = VirtualServers([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    servers.servers[0][1] = Loaded(ONE_SPEC, fault="FAILED_PRECONDITION")
    await worker.traffic(2.0)
    servers.servers[0][1] = Loaded(ONE_SPEC)
    await later(1)
    broken = len(worker.tasks)
    await worker.traffic(0.2)
    answers = await worker.settle()
    assert {answer["status"] for answer in answers[broken - 20 : broken]} == {"fallback"}
    assert {answer["status"] for answer in answers[broken:]} == {"ok"}


@virtual
async def test_without_another_version_the_answers_have_priors_until_the_object_is_good() -> None:
    """Rows of the old spec could fit the new object by chance: its scores would be wrong."""

    class Unreadable(VirtualServers):
        is_readable = True

        async def feature_spec(self, version: ModelVersion) -> str:
            return await super().feature_spec(version) if self.is_readable else "{"

        async def show(
            self, version: ModelVersion, inputs: BatchInputs, *, has_spec: bool
        ) -> dict[str, Shown | PredictError]:
            shown = await super().show(version, inputs, has_spec=has_spec)
            if self.is_readable:
                return shown
            return {a: Shown("{", s.signature, s.scores) for a, s in shown.items() if isinstance(s, Shown)}

    servers = Unreadable([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    servers.is_readable = False
    await later(11)
    calls = len(servers.calls)
    await worker.traffic(0.2)
    answers = await worker.settle()
    assert {answer["status"] for answer in answers} == {"fallback"}
    assert len(servers.calls) == calls
    assert "was replaced by a version that cannot be prepared" in answers[-1]["reason"]
    servers.is_readable = True
    await later(41)
    await worker.traffic(0.2)
    assert (await worker.settle())[-1]["status"] == "ok"


@virtual
async def test_a_replacement_that_a_busy_server_cannot_prepare_yet_gets_no_rows_of_the_old_spec() -> None:
    class Busy(VirtualServers):
        is_busy = False

        async def feature_spec(self, version: ModelVersion) -> str:
            if self.is_busy:
                raise PredictError("DEADLINE_EXCEEDED", "busy")
            return await super().feature_spec(version)

    servers = Busy([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    servers.is_busy = True
    servers.servers[0][1] = Loaded(ANOTHER_SPEC)
    await later(11)
    calls = len(servers.calls)
    await worker.traffic(0.2)
    assert {answer["status"] for answer in await worker.settle()} == {"fallback"}
    assert (len(servers.calls), servers.misfits) == (calls, 0)
    servers.is_busy = False
    await later(1)
    await worker.traffic(0.2)
    assert (await worker.settle())[-1]["status"] == "ok"


@virtual
async def test_scores_that_differ_from_call_to_call_do_not_count_as_another_object() -> None:
    class Random(VirtualServers):
        async def show(
            self, version: ModelVersion, inputs: BatchInputs, *, has_spec: bool
        ) -> dict[str, Shown | PredictError]:
            self.shift = getattr(self, "shift", 0.0) + 0.01
            self.servers[0][1].shift = self.shift
            return await super().show(version, inputs, has_spec=has_spec)

    servers = Random([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    await later(60)
    assert worker.model.serving_for(None).version.generation == 0
    servers.servers[0][1] = Loaded(ANOTHER_SPEC)
    await later(10)
    assert worker.model.serving_for(None).version.generation == 1


@virtual
async def test_servers_with_different_objects_under_one_number_get_no_users_of_it() -> None:
    servers = VirtualServers([loaded(1), loaded(1)])
    worker = Worker(servers)
    await worker.start()
    for server, spec in zip(servers.servers, (ONE_SPEC, ANOTHER_SPEC), strict=True):
        server[2] = Loaded(spec)
    await later(1)
    assert worker.model.describe()["serving"] == 1
    assert "servers have different objects under this number" in str(worker.model.describe()["bad"])
    servers.servers[1][2] = Loaded(ONE_SPEC)
    await later(31)
    assert worker.model.describe()["serving"] == 2


@virtual
async def test_a_rollback_leads_to_the_object_that_the_previous_number_names_now() -> None:
    servers = VirtualServers([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await later(1)
    assert worker.model.describe()["previous"] == 1
    servers.servers[0][1] = Loaded(ANOTHER_SPEC)
    await later(11)
    assert worker.model.roll_back("asked") == 1
    await worker.traffic(0.1)
    assert {answer["status"] for answer in await worker.settle()} == {"ok"}


@virtual
async def test_a_worse_object_under_the_serving_number_is_judged_and_rolled_back() -> None:
    servers = VirtualServers([loaded(1, 2)])
    worker = Worker(servers)
    await worker.start()
    await worker.model.pin(1)
    await worker.model.pin(2)
    worker.model.unpin()
    servers.servers[0][2] = Loaded(ONE_SPEC, shift=SHIFT)
    await later(11)
    replaced = worker.model.serving_for(None).version
    for _ in range(30):
        worker.model.failed(replaced, PredictError("INTERNAL", "defect"))
    assert worker.model.describe()["serving"] == 1


@virtual
async def test_a_restart_without_a_change_prepares_nothing() -> None:
    servers = VirtualServers([loaded(1)])
    worker = Worker(servers)
    await worker.start()
    before = worker.model.serving_for(None)
    await restarted(worker, Loaded(ONE_SPEC))
    await worker.settle()
    assert worker.model.serving_for(None) is before


def test_scores_of_the_same_model_on_another_processor_are_the_same() -> None:
    signature = None
    scores = np.linspace(0.001, 0.9, 16, dtype=np.float32)
    one = Shown("{}", signature, scores)  # type: ignore[arg-type]
    other = Shown("{}", signature, scores * np.float32(1 + 1e-5))  # type: ignore[arg-type]
    trained_again = Shown("{}", signature, scores * np.float32(1 + 1e-3))  # type: ignore[arg-type]
    assert one.difference(other) is None
    assert one.difference(trained_again) == "its scores of the same rows differ"
