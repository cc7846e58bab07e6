"""The model of a fleet: against formulas, and its invariants."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simpy import Environment

from benchmarks.simulate import main, markdown, with_table
from benchmarks.simulation import check
from benchmarks.simulation import costs as costs_file
from benchmarks.simulation.calibrate import Point, fitted
from benchmarks.simulation.check import Compared
from benchmarks.simulation.cores import Cores, Thread
from benchmarks.simulation.costs import Costs, OtherCosts, ScorerCosts, ServerCosts
from benchmarks.simulation.fleet import Fault, Setup, simulate
from benchmarks.simulation.one_machine import Machine, capacity
from benchmarks.simulation.outcome import Outcome
from benchmarks.simulation.partitions import imbalance, owners, partition_shares
from benchmarks.simulation.server import ModelServer
from benchmarks.simulation.sizing import size_of
from benchmarks.simulation.studies import QUICK, STUDIES
from tests.docs.worked_examples import ROOT

COSTS = Costs(
    machine="a test",
    server_program="a test",
    candidates=300,
    scorer=ScorerCosts(
        chunk_ms=0.2,
        call_ms=0.4,
        request_ms=0.3,
        candidate_us=2.0,
        expired_ms=0.3,
        idle=0.0,
        start_s=0.2,
        resident_mb=140,
    ),
    server=ServerCosts(
        call_ms=0.8, row_us=3.0, round_trip_ms=0.3, spread=(1.0, 1.0), load_s=0.3, resident_mb=500, request_bytes=120e3
    ),
    other=OtherCosts(
        bidder_ms=0.4,
        broker_ms=1.0,
        ranker_ms=0.2,
        backlog_broker_ms=0.6,
        backlog_reader_ms=0.2,
        broker_idle=0.0,
        in_ms=0.5,
        out_ms=0.5,
        rows_bytes=100e3,
        columns_bytes=50e3,
        answer_bytes=8e3,
    ),
)
SMALL = Setup(rate=400.0, cell_workers=2, cell_servers=2, server_cores=2, partitions=8, users=1000, seconds=1.2)


def _mean_sojourn(server: Thread | Cores, rate: float, service_s: float, customers: int) -> float:
    """The mean time of customers of a Poisson process in a queue with this server."""
    env, times = server.env, list[float]()
    gaps = np.random.default_rng(5).exponential(1 / rate, customers)

    def arrive() -> object:
        for gap in gaps.tolist():
            yield env.timeout(gap)
            start = env.now
            callbacks = server.run(service_s).callbacks
            assert callbacks is not None
            callbacks.append(lambda _, start=start: times.append(env.now - start))  # type: ignore[misc]

    env.process(arrive())  # type: ignore[arg-type]
    env.run()
    assert len(times) == customers
    return float(np.mean(times))


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_a_thread_is_the_queue_m_d_1(load: float) -> None:
    """Pollaczek and Khinchine: s + ρ s / (2 (1 - ρ))."""
    found = _mean_sojourn(Thread(Environment()), load, 1.0, 10_000)
    assert found == pytest.approx(1.0 + load / (2 * (1 - load)), rel=0.05)


def test_cores_are_the_queue_m_d_1_with_processor_sharing() -> None:
    """Kleinrock: s / (1 - ρ), for every distribution of the service time."""
    assert _mean_sojourn(Cores(Environment(), 1), 0.6, 1.0, 10_000) == pytest.approx(2.5, rel=0.08)


def test_cores_share_their_time_equally() -> None:
    env = Environment()
    cores, ends = Cores(env, 2), list[tuple[str, float]]()
    for name, seconds in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        callbacks = cores.run(seconds).callbacks
        assert callbacks is not None
        callbacks.append(lambda _, name=name: ends.append((name, env.now)))  # type: ignore[misc]
    env.run()
    # Three jobs on two cores until 1.5 s, then c alone at full speed.
    assert [name for name, _ in ends] == ["a", "b", "c"]
    assert [at for _, at in ends] == pytest.approx([1.5, 1.5, 2.5])
    assert cores.used_s == pytest.approx(4.0)


def test_a_thread_on_shared_cores_runs_one_piece_at_a_time() -> None:
    env = Environment()
    cores = Cores(env, 2)
    thread = Thread(env, cores)
    first, second = thread.run(1.0), thread.run(1.0)
    env.run(first)
    assert env.now == pytest.approx(1.0)
    env.run(second)
    assert env.now == pytest.approx(2.0)


def test_a_server_rejects_calls_above_its_threads_at_once() -> None:
    env = Environment()
    server = ModelServer(env, Cores(env, 1), 2, COSTS, seed=1)
    replies = [server.call(300) for _ in range(3)]
    env.run(replies[2])
    assert replies[2].value == "RESOURCE_EXHAUSTED"
    assert env.now == pytest.approx(3e-4)
    env.run()
    assert [reply.value for reply in replies[:2]] == [None, None]
    assert (server.calls, server.rejected) == (2, 1)


def test_a_killed_server_fails_its_calls_and_later_ones() -> None:
    env = Environment()
    server = ModelServer(env, Cores(env, 1), 8, COSTS, seed=1)
    active = server.call(300)
    server.kill()
    later = server.call(300)
    env.run()
    assert (active.value, later.value) == ("UNAVAILABLE", "UNAVAILABLE")


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [Fault(0.5, "kill_server"), Fault(0.9, "start_server")],
        [Fault(0.5, "kill_worker")],
        [Fault(0.3, "upgrade")],
        [Fault(0.3, "switch"), Fault(0.6, "kill_worker", 1)],
    ],
    ids=lambda faults: "+".join(fault.kind for fault in faults) or "none",
)
@pytest.mark.parametrize("standby", [True, False])
def test_every_request_is_answered_once(faults: list[Fault], standby: bool) -> None:
    """`simulate` raises an error for a request with two answers or none."""
    found = simulate(replace(SMALL, standby=standby), COSTS, faults)
    assert len(found.sent) == pytest.approx(SMALL.rate * SMALL.seconds, rel=0.15)
    assert not np.isnan(found.latency).any()
    assert (found.latency > 0).all()
    assert found.ok.mean() > 0.6


def test_the_same_seed_gives_the_same_run() -> None:
    one, two = (simulate(replace(SMALL, seconds=0.3), COSTS) for _ in range(2))
    np.testing.assert_array_equal(one.latency, two.latency)


def test_a_lost_server_raises_the_load_of_the_others() -> None:
    calm = simulate(SMALL, COSTS)
    lost = simulate(SMALL, COSTS, [Fault(0.0, "kill_server")])
    assert lost.server_used[0] == 0
    assert lost.server_used[1] > 1.5 * calm.server_used[1]


def test_a_lost_zone_goes_to_the_others_after_the_session_timeout() -> None:
    setup = replace(SMALL, rate=300.0, cells=2, cell_workers=1, cell_servers=1, seconds=11.5)
    found = simulate(setup, COSTS, [Fault(0.5, "lose_cell")])
    assert found.between(0.0, 0.4).ok_share == 1.0
    assert found.between(0.6, 10.0).ok_share == pytest.approx(0.5, abs=0.05)
    assert found.between(10.8, 11.5).ok_share > 0.98
    assert found.expired.mean() > 0.35


def test_more_load_gives_longer_times_and_more_workers_more_goodput() -> None:
    def run(rate: float, workers: int) -> Outcome:
        return simulate(replace(SMALL, rate=rate, cell_workers=workers, cell_servers=2 * workers, seconds=0.8), COSTS)

    p50 = [run(rate, 1).between(0.2, 0.8).p50_ms for rate in (100.0, 500.0, 750.0)]
    assert p50 == sorted(p50)
    goodput = [run(1500.0, workers).between(0.2, 0.8).goodput for workers in (1, 2)]
    assert goodput[1] > 1.5 * goodput[0]


def test_cells_run_alone_as_they_do_together() -> None:
    setup = replace(SMALL, rate=600.0, cells=2, cell_workers=1, cell_servers=1, partitions=16, seconds=1.0)
    apart = simulate(setup, COSTS)
    together = simulate(setup, COSTS, [Fault(1.0, "start_server")])
    assert len(apart.worker_used) == len(together.worker_used) == 2
    assert apart.worker_used.mean() == pytest.approx(together.worker_used.mean(), rel=0.1)


def test_two_workers_on_two_shared_cores_have_no_more_than_the_cores() -> None:
    one, two = (capacity(Machine(workers=count, seconds=1.5), COSTS) for count in (1, 2))
    # CPU of a request in batches of four: 1.01 + 1.1 + 0.6 + 0.2 ms.
    assert one == pytest.approx(2 / 2.91e-3, rel=0.1)
    assert two == pytest.approx(2 / 2.91e-3, rel=0.1)


def test_partitions_are_shared_equally_and_skew_is_not() -> None:
    owner = owners(64, 8, 4)
    assert np.bincount(owner).tolist() == [8] * 8
    equal, skewed = (partition_shares(64, 100_000, exponent, seed=1) for exponent in (0.0, 1.0))
    assert equal.sum() == pytest.approx(1.0)
    assert imbalance(equal, owner, 8) < 1.05
    assert imbalance(skewed, owner, 8) > 1.3
    # A worker with as many partitions as the others, and one heavy user.
    assert imbalance(np.array([5.0, 1.0, 1.0, 1.0]), [0, 1, 2, 3], 4) == pytest.approx(2.5)


def test_the_fit_finds_the_costs_of_chunk_call_request_and_candidate() -> None:
    def point(candidates: int, batch: float, chunk: float) -> Point:
        return Point(candidates, batch, 0.8 / chunk + 0.6 / batch + 0.3 + candidates * 0.002, 0.0, 0.0)

    found = fitted([point(60, 1.0, 1.0), point(300, 1.0, 1.0)], [point(60, 8.0, 4.0), point(300, 3.0, 4.0)])
    assert found == pytest.approx((0.8, 0.6, 0.3, 2.0))
    assert min(fitted([Point(60, 1.0, 1.0, 0, 0), Point(300, 1.0, 0.5, 0, 0)], [Point(60, 4.0, 1.1, 0, 0)])) >= 0.0


def test_a_fleet_for_a_million_requests_a_second() -> None:
    size = size_of(COSTS, 1e6, load=0.5, batch=4.0, server_cores=4, price=0.1)
    assert (size.worker_cores, size.server_cores, size.broker_cores) == (2_100, 2_200, 2_000)
    assert size.topic_bytes == pytest.approx(58e9)
    assert size.million == pytest.approx(6_300 * 0.1 / 3600)


def test_costs_survive_their_file(tmp_path: Path) -> None:
    costs_file.write(COSTS, tmp_path / "costs.json")
    assert costs_file.read(tmp_path / "costs.json") == replace(COSTS, server=replace(COSTS.server, spread=[1.0, 1.0]))
    assert costs_file.read().worker_rate > 50


def test_a_difference_has_a_verdict() -> None:
    compared = Compared("capacity_1", "requests/s", measured=100.0, predicted=120.0)
    figure = compared.figures()[2]
    assert figure.value == pytest.approx(0.2)
    assert figure.holds is False
    assert check.table([compared])[1] == ["capacity 1", "100 requests/s", "120 requests/s", "+20%", "no"]


def test_tables_replace_those_of_the_page() -> None:
    page = "a\n<!-- simulated: cost -->\nold\n<!-- end of cost -->\nb"
    table = markdown([["x", "y"], ["1", "2"]])
    assert with_table(page, "cost", table) == (
        "a\n<!-- simulated: cost -->\n| x | y |\n| --- | --- |\n| 1 | 2 |\n<!-- end of cost -->\nb"
    )
    with pytest.raises(ValueError, match="no marks for the table 'loads'"):
        with_table(page, "loads", table)


def test_the_page_has_every_table() -> None:
    page = (ROOT / "docs/capacity.md").read_text(encoding="utf-8")
    for name in (*STUDIES, "check"):
        assert with_table(page, name, "x") != page


def test_the_example_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/capacity.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in page.splitlines() if line.strip().startswith("python -m benchmarks.simulate")]
    example = next(command for command in commands if "--workers" in command)
    arguments = example.split("#")[0].split()[2:]
    monkeypatch.setattr(sys, "argv", [*arguments, "--seconds", "0.1"])
    assert main() == 0
    assert "scored in time" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_table_can_be_made(name: str) -> None:
    header, *rows = STUDIES[name](COSTS, QUICK)
    assert rows
    assert {len(row) for row in rows} == {len(header)}
