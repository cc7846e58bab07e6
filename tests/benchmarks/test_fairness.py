"""Workers that share nothing but one model server, on the virtual clock."""

import asyncio
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.bench import Bench, Options
from benchmarks.fair_worker import Worker
from benchmarks.fairness import COUNTS, deviation, fixed_limits, processes, rate_of, simulate
from benchmarks.in_process import predictor_of
from sandbox.model_server.simulated import SimulatedServer
from streamer.testing.virtual_loop import virtual

CAPACITY = 160.0  # 8 calls of 50 ms


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4, 8])
def test_they_get_equal_shares_of_a_server_that_rejects_calls(workers: int) -> None:
    found = simulate(workers, seconds=60.0)
    assert rate_of(found) >= 0.9 * CAPACITY
    assert deviation(found) <= 0.2


@pytest.mark.parametrize("workers", [1, 8])
def test_no_rejection_reaches_an_answer_while_the_server_has_capacity(workers: int) -> None:
    found = simulate(workers, load=0.7, seconds=6.0)
    assert sum(worker.rejected for worker in found) == 0
    assert rate_of(found) > 0.6 * CAPACITY


@virtual
async def test_after_rejections_of_every_call_the_server_is_used_again_at_once() -> None:
    start = asyncio.get_running_loop().time()
    server = SimulatedServer("", fixed_s=0.01, per_row_s=0.0, workers=2)
    worker = Worker(predictor_of({"simulated:8500": server}), rate=100.0, budget_s=0.2, seed=1)

    async def refuse() -> None:
        await asyncio.sleep(2.0)
        server.fault = "refused"
        await asyncio.sleep(2.0)
        server.fault = "none"

    refusing = asyncio.create_task(refuse())
    outcome = await worker.run(start, start + 5.0)
    await refusing
    assert outcome.rejected > 50
    assert outcome.counted(start + 4.25, start + 5.0).rate > 75


@virtual
async def test_a_server_that_rejects_for_long_is_not_called_all_the_time() -> None:
    server = SimulatedServer("", fixed_s=0.01, per_row_s=0.0, workers=2, fault="refused")
    worker = Worker(predictor_of({"simulated:8500": server}), rate=0.02, budget_s=40.0, seed=1)
    start = asyncio.get_running_loop().time()
    await worker.run(start, start + 1000.0)
    assert 1_000 < server.calls < 6_000, "about 20 requests, each with a call every 0.25 s"


@pytest.mark.slow
@pytest.mark.parametrize("workers", COUNTS)
def test_goodput_is_that_of_the_best_fixed_limit(workers: int) -> None:
    best = max(rate_of(simulate(workers, fixed=fixed)) for fixed in fixed_limits(workers, 8))
    assert rate_of(simulate(workers)) >= 0.9 * best


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "threads"), [(2, 1), (8, 1), (2, 2), (8, 2), (2, 4), (8, 4)])
def test_more_workers_than_threads_share_them(workers: int, threads: int) -> None:
    found = simulate(workers, threads=threads, seconds=80.0)
    assert rate_of(found) >= 0.85 * threads / 0.05
    assert deviation(found) <= 0.25, "none keeps a thread to itself"


@pytest.mark.slow
@pytest.mark.parametrize("workers", COUNTS)
def test_they_share_a_server_that_queues_calls(workers: int) -> None:
    found = simulate(workers, load=1.1, rejects=False, seconds=60.0)
    assert rate_of(found) >= 0.9 * CAPACITY
    assert deviation(found) <= 0.2


@pytest.mark.slow
def test_workers_that_start_later_get_their_shares() -> None:
    found = simulate(4, seconds=190.0, load=2.0, late_s=10.0)  # over one minute the shares vary by up to 0.2
    assert rate_of(found) >= 0.9 * CAPACITY
    assert deviation(found) <= 0.2


@pytest.mark.slow
def test_worker_processes_share_a_server(tmp_path: Path) -> None:
    with Bench(Options(out=tmp_path), Console(quiet=True)) as bench:
        found = processes(bench, 2, 0.5, 4.0)
    assert len(found) == 2
    assert all(worker.rate > 0 for worker in found)
