"""The orders that a supervisor keeps, from the reports of its workers."""

from typing import Any

from streamer.rollout.orders import ModelOrders, Shared
from streamer.supervision.kept_orders import KeptOrders


class _Kept(KeptOrders):
    """The orders for one model; worker 9 is a standby."""

    def report(self, number: int, serving: int = 5, *rolled_back: int, **orders: Any) -> None:
        new = ModelOrders("ctr", serving, rolled_back=frozenset(rolled_back), **orders)
        self.reported(number, [new], is_active=number != 9)

    @property
    def ctr(self) -> ModelOrders:
        (found,) = self.all
        return found


def test_an_order_outlives_the_processes_that_have_it() -> None:
    kept, canary = _Kept(), Shared("new", 0.1)
    kept.report(0)
    kept.report(0, 4, pinned=4, canary=canary, shadow=Shared(3, 0.5))
    kept.ended(0)
    kept.report(1, 5)
    assert kept.ctr == ModelOrders("ctr", 4, 4, canary, Shared(3, 0.5)), "a new process revokes nothing"


def test_an_order_counts_if_one_worker_accepted_it() -> None:
    kept = _Kept()
    for number in (0, 1):
        kept.report(number)
    kept.report(0, 4, pinned=4)
    kept.report(1)
    assert kept.ctr.pinned == 4
    kept.report(1, 4, pinned=4)
    kept.report(0, 5)
    kept.report(1, 4, pinned=4)
    assert kept.ctr.pinned is None, "worker 1 did not execute the unpin"


def test_a_rollback_counts_if_one_worker_has_it_until_one_revokes_it() -> None:
    kept = _Kept()
    for number in (0, 1):
        kept.report(number)
    kept.report(1, 4, 5)
    kept.report(0, 5)
    assert kept.ctr == ModelOrders("ctr", 4, rolled_back=frozenset({5}))
    kept.ended(1)
    assert kept.ctr.rolled_back == {5}
    kept.report(0, 5, 3)
    kept.report(0, 5)
    assert kept.ctr.rolled_back == {5}


def test_an_unpin_accepts_the_versions_again() -> None:
    kept = _Kept()
    for number in (0, 1):
        kept.report(number, 4, 5)
    for number in (0, 1):
        kept.report(number, 4)
    assert kept.ctr == ModelOrders("ctr", 4)


def test_the_served_version_is_what_active_workers_move_to() -> None:
    kept = _Kept()
    kept.report(0, 4)
    kept.report(9, 5)
    kept.report(1, 5)
    assert kept.ctr.serving == 4, "a standby and a new process choose by themselves"
    kept.report(0, 6)
    assert kept.ctr.serving == 6


def test_an_order_before_the_first_active_worker_is_kept() -> None:
    kept = _Kept()
    kept.report(9, 5)
    assert not kept.all
    kept.report(9, 4, pinned=4)
    assert kept.ctr == ModelOrders("ctr", None, 4)


def test_a_handover_is_no_new_order() -> None:
    kept = _Kept()
    kept.report(0, 4, pinned=4)
    kept.report(1, 5, pinned=5)
    assert kept.lacks(0)
    kept.adopted(0, [ModelOrders("ctr", 5, 5)])
    kept.report(0, 5, pinned=5)
    assert kept.ctr.pinned == 5
    assert not kept.lacks(0)
    assert not kept.lacks(2), "it has not reported"
