"""What is left of the answers under overload, on a virtual clock: the same on every machine."""

from dataclasses import replace

import pytest

from benchmarks.decisions import STALLS, Setting, simulate

FULL = Setting(load=100, seconds=8.0)


def test_an_overloaded_scorer_answers_as_many_in_time_as_a_loaded_one() -> None:
    at_full = simulate(FULL)
    over = simulate(replace(FULL, load=300))
    assert at_full.goodput >= 0.9 * FULL.capacity
    assert over.offered > 2.8 * FULL.capacity
    assert over.goodput >= 0.85 * at_full.goodput
    assert over.p99 <= FULL.budget_s * 1e3


def test_a_server_that_stalls_costs_its_stalls_and_no_collapse() -> None:
    stalls, stall_s = STALLS["stalling"]
    stalling = replace(FULL, stalls=stalls, stall_s=stall_s)
    at_full = simulate(stalling)
    over = simulate(replace(stalling, load=300))
    assert over.goodput >= 0.85 * at_full.goodput


@pytest.mark.parametrize("load", [10, 50])
def test_with_time_to_spare_all_are_answered_by_small_batches(load: int) -> None:
    seen = simulate(replace(FULL, load=load))
    assert seen.goodput == seen.offered
    assert seen.batch_rows < 450
