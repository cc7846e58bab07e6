"""Versions that appear, vanish and fail under load, race by race, on the virtual clock."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import PredictError
from streamer.testing.model_servers import Call, Loaded, VirtualServers
from streamer.testing.virtual_loop import run_virtual, virtual
from tests.streamer.rollout.switching import ANOTHER_SPEC, ONE_SPEC, Worker, loaded

Answers = list[dict[str, Any]]


async def later(seconds: float) -> None:
    await asyncio.sleep(seconds)  # of the virtual clock


def versions(answers: Answers) -> list[int]:
    return [answer["model"]["version"] for answer in answers]


def statuses(answers: Answers) -> dict[str, int]:
    return dict(Counter(answer["status"] for answer in answers))


def overlap(calls: list[Call], one: int, other: int) -> bool:
    """Whether calls of both versions were active at the same time."""
    return any(
        a.start < b.end and b.start < a.end for a in calls if a.version == one for b in calls if b.version == other
    )


@virtual
async def test_a_switch_while_batches_of_both_versions_are_in_flight() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.03)
    worker = Worker(servers)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(1.0))
    await later(0.2)
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert (versions(answers)[0], versions(answers)[-1]) == (1, 2)
    assert overlap(servers.calls, 1, 2)


@virtual
async def test_each_user_changes_version_once() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.004)
    worker = Worker(servers)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(1.0))
    await later(0.2)
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await traffic
    by_user: dict[int, list[int]] = {}
    for number, version in enumerate(versions(await worker.settle())):
        by_user.setdefault(number % 40, []).append(version)
    assert all(seen == sorted(seen) and set(seen) == {1, 2} for seen in by_user.values())


@virtual
async def test_versions_of_different_specs_are_switched_under_load() -> None:
    """The second version reads fewer features; its rows have other widths."""
    servers = VirtualServers([loaded(1)], call_s=0.01)
    worker = Worker(servers)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(1.2))
    await later(0.2)
    servers.servers[0][2] = Loaded(ANOTHER_SPEC)
    await later(0.5)
    servers.servers[0][3] = Loaded(ONE_SPEC)
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert set(versions(answers)) == {1, 2, 3}
    assert overlap(servers.calls, 1, 2)
    assert any("cache" in answer["source"] for answer in answers)


@virtual
async def test_a_rollback_in_the_middle_of_a_ramp() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.03)
    worker = Worker(servers)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(1.0))
    await later(0.2)
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await later(0.2)
    sent = len(worker.tasks)
    assert worker.model.roll_back("asked") == 1
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert 2 in versions(answers[:sent]), "records in flight keep their version"
    assert set(versions(answers[sent:])) == {1}


@virtual
async def test_scores_of_a_version_that_was_rolled_back_are_not_found_when_it_comes_again() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.03)
    worker = Worker(servers, ramp_s=0.0)
    await worker.start()
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await worker.models.refresh()
    late = worker.send(1)  # its scores return after the rollback of their version
    await later(0.001)
    worker.model.roll_back("asked")
    await late
    worker.model.unpin()
    await worker.models.refresh()
    worker.send(1)
    answers = await worker.settle()
    assert versions(answers) == [2, 2]
    assert answers[1]["source"] == ["model"] * 3


@virtual
async def test_scores_of_a_canary_that_was_rolled_back_are_not_found_when_it_comes_again() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.03)
    worker = Worker(servers)
    await worker.models.refresh()  # without a poll loop
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await worker.model.canary(2, 0.99)
    early = worker.send(1)
    await early
    late = worker.send(1, (1, 2, 3, 4))
    await later(0.001)
    worker.model.roll_back("asked")
    await late
    await worker.model.canary(2, 0.99)
    worker.send(1, (1, 2, 3, 4))
    answers = await worker.settle()
    assert versions(answers) == [2, 2, 2]
    assert [answer["source"] for answer in answers[1:]] == [["cache"] * 3 + ["model"], ["model"] * 4]


@virtual
async def test_a_version_that_fails_during_its_ramp_goes_back_by_itself() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.005)
    worker = Worker(servers, ramp_s=0.5, cache=False)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(1.0))
    await later(0.2)
    servers.servers[0][2] = Loaded(ONE_SPEC)
    await later(0.1)
    servers.servers[0][2].fault = "INTERNAL"
    await traffic
    answers = await worker.settle()
    assert worker.model.describe()["rolled_back"] == [2]
    failed = [a for a in answers if a["status"] != "ok"]
    assert failed
    assert set(versions(failed)) == {2}
    assert set(versions(answers[-100:])) == {1}


@virtual
async def test_the_pinned_version_vanishes_in_the_middle_of_the_flip() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.01)
    worker = Worker(servers, ramp_s=0.5)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(0.8))
    await later(0.2)
    servers.servers[0][2] = Loaded(ANOTHER_SPEC)
    await later(0.2)
    del servers.servers[0][1]
    sent = len(worker.tasks)
    await later(0.06)
    assert worker.model.describe()["serving"] == 2, "it is ready, and serves at once"
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert set(versions(answers[sent:])) == {2}
    assert servers.warmed == [1, 2, 2], "it was prepared once"


@virtual
async def test_the_version_before_takes_over_at_once_where_the_one_that_serves_vanishes() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.01)
    worker = Worker(servers, ramp_s=0.0)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(0.6))
    await later(0.1)
    servers.servers[0][2] = Loaded(ANOTHER_SPEC)
    await later(0.2)
    del servers.servers[0][2]
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert sorted(set(versions(answers))) == [1, 2]
    assert versions(answers)[-1] == 1
    assert servers.warmed == [1, 2, 2], "version 1 was prepared once"


@virtual
async def test_the_pinned_version_vanishes_while_the_next_one_is_prepared() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.01, control_s=0.03)
    worker = Worker(servers, ramp_s=0.5)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(0.8))
    await later(0.2)
    servers.servers[0][2] = Loaded(ANOTHER_SPEC)
    while len(servers.calls) and servers.calls[-1].version != 2:
        await later(0.001)
    del servers.servers[0][1]
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert versions(answers)[-1] == 2


@virtual
async def test_the_incoming_version_vanishes_in_the_middle_of_the_flip() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.01)
    worker = Worker(servers, ramp_s=0.5)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(0.8))
    await later(0.2)
    servers.servers[0][2] = Loaded(ANOTHER_SPEC)
    await later(0.3)
    del servers.servers[0][2]
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert set(versions(answers)) == {1, 2}
    assert set(versions(answers[-100:])) == {1}


@virtual
async def test_replicas_that_have_the_new_version_at_different_times() -> None:
    """It serves when all have it; the old version is called on the replica that still has it."""
    early, late = loaded(1), loaded(1)
    servers = VirtualServers([early, late], call_s=0.01)
    worker = Worker(servers)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(1.4))
    await later(0.2)
    early[2] = Loaded(ONE_SPEC)
    await later(0.4)
    alone = len(worker.tasks)
    late[2] = Loaded(ONE_SPEC)
    await later(0.1)
    del early[1]
    await later(0.1)
    del late[1]
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert set(versions(answers[:alone])) == {1}
    assert versions(answers)[-1] == 2


@virtual
async def test_the_leader_of_a_single_flight_fails_during_a_switch() -> None:
    """Its version vanishes: the followers are scored by the successor, in one call."""
    servers = VirtualServers([loaded(1)], call_s=0.02)
    worker = Worker(servers, ramp_s=0.0)
    await worker.start()
    await worker.send(9)  # version 1 works
    servers.servers[0][2] = Loaded(ONE_SPEC)
    servers.servers[0][1].fault = "UNAVAILABLE"
    leader = worker.send(1)
    await later(0.005)
    followers = [worker.send(1) for _ in range(5)]
    await later(0.005)
    del servers.servers[0][1]
    await asyncio.gather(leader, *followers)
    answers = await worker.settle()
    assert answers[1]["status"] == "fallback", "the leader's call failed by a fault of the server"
    assert [(a["status"], a["model"]["version"]) for a in answers[2:]] == [("ok", 2)] * 5
    assert sum(call.rows for call in servers.calls if call.version == 2) == 3 + 2 * 3, "one call, and the warm-up"


@virtual
async def test_a_version_whose_warm_up_fails_gets_no_user() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.005)
    worker = Worker(servers, ramp_s=0.0)
    await worker.start()
    traffic = asyncio.create_task(worker.traffic(0.5))
    await later(0.2)
    servers.servers[0][2] = Loaded(ANOTHER_SPEC, fault="INVALID_ARGUMENT")
    await traffic
    answers = await worker.settle()
    assert statuses(answers) == {"ok": len(answers)}
    assert set(versions(answers)) == {1}
    servers.servers[0][2].fault = None
    await later(1.0)
    await worker.send(1)
    await later(30.0)
    await worker.send(2)
    answers = await worker.settle()
    assert versions(answers[-2:]) == [1, 2], "it is retried after a pause"


@virtual
async def test_a_server_that_is_away_during_the_warm_up_costs_the_version_no_pause() -> None:
    servers = VirtualServers([loaded(1)], call_s=0.005)
    worker = Worker(servers, ramp_s=0.0)
    await worker.start()
    servers.servers[0][2] = Loaded(ONE_SPEC, fault="UNAVAILABLE")
    await later(0.3)
    servers.servers[0][2].fault = None
    await later(0.1)
    await worker.send(1)
    assert versions(await worker.settle()) == [2]


@virtual
async def test_a_canary_that_is_ended_while_its_next_version_is_prepared_stays_ended() -> None:
    servers = VirtualServers([loaded(1, 2, 3)], [{"stable": 1, "canary": 2}], control_s=0.1)
    worker = Worker(servers, label="stable")
    await worker.start()
    await worker.model.canary("canary", 0.5)
    servers.labels[0]["canary"] = 3
    while 3 not in servers.warmed:
        await later(0.001)
    worker.model.unpin()
    await later(2.0)
    worker.send(1)
    assert versions(await worker.settle()) == [1]
    assert worker.model.describe()["incoming"] is None


# Random sequences

Step = tuple[str, int]
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["publish", "publish on one", "take away", "take away on one"]), st.integers(2, 4)),
        st.tuples(st.sampled_from(["pin", "canary", "fail", "heal"]), st.integers(1, 4)),
        st.tuples(st.sampled_from(["label", "label on one", "canary by label"]), st.integers(1, 4)),
        st.tuples(st.sampled_from(["unpin", "roll back"]), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([1, 7, 30, 120])),
    ),
    min_size=4,
    max_size=14,
)
_SPECS = {1: ONE_SPEC, 2: ANOTHER_SPEC, 3: ONE_SPEC, 4: ANOTHER_SPEC}


async def take(step: Step, worker: Worker) -> None:
    """Changes versions on the servers or by an order; version 1 is always available."""
    what, number = step
    servers = worker.servers.servers
    match what:
        case "publish" | "publish on one":
            for server in servers[: 1 if what.endswith("one") else None]:
                server.setdefault(number, Loaded(_SPECS[number]))
        case "take away" | "take away on one":
            for server in servers[: 1 if what.endswith("one") else None]:
                server.pop(number, None)
        case "fail" | "heal":
            for server in servers:
                if number in server:
                    server[number].fault = "INTERNAL" if what == "fail" else None
        case "label" | "label on one":
            for labels in worker.servers.labels[: 1 if what.endswith("one") else None]:
                labels["stable"] = number
        case "wait":
            await later(number / 1e3)
        case _:
            # An impossible order is rejected.
            with contextlib.suppress(PredictError, LookupError):
                await order(step, worker)


async def order(step: Step, worker: Worker) -> None:
    """Gives an operator's order."""
    what, number = step
    match what:
        case "pin":
            await worker.model.pin(number)
        case "canary":
            await worker.model.canary(number, 0.5)
        case "canary by label":
            for labels in worker.servers.labels:
                labels["canary"] = number
            await worker.model.canary("canary", 0.5)
        case "unpin":
            worker.model.unpin()
        case "roll back":
            worker.model.roll_back("asked")


@settings(max_examples=25)
@given(_STEPS, st.sampled_from([None, "stable"]))
def test_each_request_has_one_answer_by_one_version(steps: list[Step], label: str | None) -> None:
    """`Worker.settle` checks the answers; if no version fails, every request gets scores."""

    async def main() -> None:
        servers = VirtualServers([loaded(1), loaded(1)], [{"stable": 1}, {"stable": 1}], call_s=0.006)
        worker = Worker(servers, ramp_s=0.05, label=label)
        await worker.start()
        traffic = asyncio.create_task(worker.traffic(0.3, every_s=0.004))
        for step in steps:
            await take(step, worker)
            await later(0.004)
        await traffic
        answers = await worker.settle()
        assert {answer["status"] for answer in answers} <= {"ok", "partial", "fallback"}
        if not any(what == "fail" for what, _ in steps):
            assert statuses(answers) == {"ok": len(answers)}

    run_virtual(main)


@pytest.mark.parametrize("budget_ms", [3.0, 8.0, 20.0])
def test_each_request_has_one_answer_with_a_small_budget(budget_ms: float) -> None:
    async def main() -> None:
        servers = VirtualServers([loaded(1)], call_s=0.006)
        worker = Worker(servers, ramp_s=0.1)
        await worker.start()
        for turn in range(200):
            worker.send(turn % 20, (turn % 5, 7), budget_ms=budget_ms)
            if turn == 50:
                servers.servers[0][2] = Loaded(ANOTHER_SPEC)
            if turn == 120:
                del servers.servers[0][1]
            await later(0.002)
        answers = await worker.settle()
        assert len(answers) == 200
        assert {answer["status"] for answer in answers} <= {"ok", "partial", "fallback"}

    run_virtual(main)
