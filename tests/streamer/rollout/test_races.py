"""Orders, verdicts and vanished versions while a version is prepared, on the virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
import structlog

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.prepared_version import PreparedVersion
from streamer.rollout.controller import ModelController
from streamer.rollout.orders import ModelOrders, Shared, orders_of
from streamer.serving.warmup import Preparer
from streamer.settings import Settings
from streamer.testing.model_servers import Loaded, VirtualServers
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import Header, ModelVersion
from tests.streamer.rollout.switching import ONE_SPEC, loaded


class SlowPreparer:
    """Prepares versions by a real Preparer, then waits until the test lets them go."""

    def __init__(self, servers: VirtualServers, settings: Settings) -> None:
        self._preparer = Preparer(servers, settings)
        self.held: set[int] = set()
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self.prepared: list[int] = []

    async def prepare(self, version: ModelVersion) -> PreparedVersion:
        prepared = await self._preparer.prepare(version)
        if version.version in self.held:
            self.waiting.set()
            await self.go.wait()
        self.prepared.append(version.version)
        return prepared

    async def difference(self, version: ModelVersion) -> str | None:
        return await self._preparer.difference(version)

    def remember(self, value: bytes, headers: Sequence[Header]) -> None:
        raise AssertionError("no requests here")


class Rig:
    """A model with versions 1 and 2; the preparation of version 3 waits for `go`."""

    def __init__(self, *versions: int, label: str | None = None, labels: dict[str, int] | None = None) -> None:
        settings = Settings.model_validate(
            {
                "rollout": {"ramp_s": 10.0},
                "guard": {"watched_calls": 50, "min_rows": 100},
                "predictor": {"labels": {} if label is None else {"ctr": label}},
            }
        )
        self.servers = VirtualServers([loaded(*versions)], [labels or {}])
        self.preparer = SlowPreparer(self.servers, settings)
        self.preparer.held = {3}
        clock = asyncio.get_running_loop().time
        log, metrics = structlog.get_logger(), Metrics()
        self.model = ModelController(
            "ctr", self.servers, self.preparer, settings, None, metrics=metrics, log=log, clock=clock
        )

    async def during(self, work: Awaitable[None], meanwhile: Callable[[], object]) -> BaseException | None:
        """Does something while `work` prepares version 3; returns the error of `work`."""
        task = asyncio.ensure_future(work)
        await self.preparer.waiting.wait()
        meanwhile()
        self.preparer.go.set()
        (error,) = await asyncio.gather(task, return_exceptions=True)
        return error

    def roles(self) -> tuple[object, ...]:
        """Serving, incoming, previous and pinned version."""
        described = self.model.describe()
        incoming = described["incoming"]
        assert incoming is None or isinstance(incoming, dict)
        return described["serving"], incoming and incoming["version"], described["previous"], described["pinned"]

    async def serve_1_then_2(self) -> None:
        """Version 2 serves, version 1 served before."""
        await self.model.pin(1)
        await self.model.pin(2)
        self.model.unpin()


ORDERS: dict[str, Callable[[ModelController], Awaitable[None]]] = {
    "pin": lambda model: model.pin(3),
    "canary": lambda model: model.canary(3, 0.5),
    "canary by label": lambda model: model.canary("canary", 0.5),
    "shadow": lambda model: model.shadow(3, 0.5),
}
REVOCABLE: dict[str, Callable[[ModelController], Awaitable[None]]] = {
    **{name: ORDERS[name] for name in ("pin", "canary", "canary by label")},
    "adopt": lambda model: model.adopt(ModelOrders("ctr", 3)),
}


def roll_back(rig: Rig) -> None:
    assert rig.model.roll_back("asked") == 1


def unpin(rig: Rig) -> None:
    rig.model.unpin()


@pytest.mark.parametrize(("revoke", "roles"), [(unpin, (2, None, 1, None)), (roll_back, (1, None, None, None))])
@pytest.mark.parametrize("order", REVOCABLE)
def test_a_later_unpin_or_rollback_revokes_an_order_that_waits(
    order: str, revoke: Callable[[Rig], None], roles: tuple[object, ...]
) -> None:
    async def main() -> None:
        rig = Rig(1, 2, 3, labels={"canary": 3})
        await rig.serve_1_then_2()
        error = await rig.during(REVOCABLE[order](rig.model), lambda: revoke(rig))
        assert isinstance(error, PredictError)
        assert error.code == "ABORTED"
        assert rig.roles() == roles
        assert rig.model.describe()["canary"] is None
        assert 3 in rig.preparer.prepared, "it was prepared, and then dropped"

    run_virtual(main)


@virtual
async def test_an_unpin_revokes_an_order_that_waits_for_its_turn() -> None:
    rig = Rig(1, 2, 3)
    await rig.serve_1_then_2()
    first = asyncio.ensure_future(rig.model.pin(3))
    await rig.preparer.waiting.wait()
    second = asyncio.ensure_future(rig.model.pin(1))
    await asyncio.sleep(0)
    rig.model.unpin()
    rig.preparer.go.set()
    errors = await asyncio.gather(first, second, return_exceptions=True)
    assert [isinstance(error, PredictError) and error.code for error in errors] == ["ABORTED", "ABORTED"]
    assert rig.roles() == (2, None, 1, None)


@virtual
async def test_orders_are_carried_out_in_their_sequence() -> None:
    rig = Rig(1, 2, 3)
    await rig.serve_1_then_2()
    first = asyncio.ensure_future(rig.model.pin(3))
    await rig.preparer.waiting.wait()
    second = asyncio.ensure_future(rig.model.pin(1))
    rig.preparer.go.set()
    await asyncio.gather(first, second)
    assert rig.roles() == (1, None, 3, 1)


@virtual
async def test_an_order_that_needs_a_serving_version_is_rejected_before_there_is_one() -> None:
    rig = Rig(1, 2)
    with pytest.raises(PredictError) as rejected:
        await rig.model.canary(2, 0.5)
    assert str(rejected.value) == "FAILED_PRECONDITION: version 2 of 'ctr': Canary is not possible in state NOTHING"
    with pytest.raises(LookupError, match="RollBack is not possible in state NOTHING"):
        rig.model.roll_back("asked")


@virtual
async def test_an_unpin_does_not_end_a_shadow_that_waits() -> None:
    rig = Rig(1, 2, 3)
    await rig.serve_1_then_2()
    assert await rig.during(ORDERS["shadow"](rig.model), rig.model.unpin) is None
    assert rig.model.describe()["shadow"] == {"version": 3, "share": 0.5}


@virtual
async def test_a_new_process_has_the_orders_of_another_one() -> None:
    first, second = Rig(1, 2, 4), Rig(1, 2, 4)
    for rig in (first, second):
        await rig.model.refresh()
    await first.model.pin(2)
    await first.model.pin(4)
    first.model.roll_back("asked")
    await first.model.canary(1, 0.5)
    await first.model.shadow(1, 0.5)
    (orders,) = orders_of([first.model.describe()])
    assert orders == ModelOrders("ctr", 2, None, Shared(1, 0.5), Shared(1, 0.5), frozenset({4}))
    await second.model.adopt(orders)
    await second.model.refresh()
    assert second.model.describe() == first.model.describe() | {"previous": None}
    for _ in range(3):
        await second.model.refresh()
    assert second.roles() == (2, 1, None, None), "version 4 does not come back"


@virtual
async def test_orders_for_versions_that_no_server_has_keep_no_process_from_working() -> None:
    rig = Rig(1, 2)
    await rig.model.refresh()
    await rig.model.adopt(ModelOrders("ctr", 7, 8, Shared("gone", 0.5), Shared(9, 0.5), frozenset({2})))
    assert rig.roles() == (1, None, None, 8)
    rig.servers.servers[0].update(loaded(8))
    await rig.model.refresh()
    await asyncio.sleep(11)
    await rig.model.refresh()
    assert rig.roles() == (8, None, 1, 8), "the pinned version serves when it is back"


@virtual
async def test_a_version_of_another_process_that_cannot_be_prepared_is_an_error() -> None:
    rig = Rig(1, 2)
    await rig.model.refresh()
    rig.servers.servers[0][1] = Loaded(ONE_SPEC, fault="INTERNAL")
    with pytest.raises(PredictError, match="each version that is not rolled back is bad"):
        await rig.model.adopt(ModelOrders("ctr", 1, rolled_back=frozenset({2})))
    assert rig.roles() == (2, None, None, None)


@virtual
async def test_a_bad_version_of_another_process_does_not_keep_its_other_orders_away() -> None:
    rig = Rig(1, 2, 4)
    await rig.model.refresh()
    rig.servers.servers[0][2] = Loaded(ONE_SPEC, fault="INTERNAL")
    await rig.model.adopt(ModelOrders("ctr", 2, 2, rolled_back=frozenset({4})))
    assert rig.roles() == (1, None, None, 2), "not the rolled back one"
    rig.servers.servers[0][2] = Loaded(ONE_SPEC)
    await asyncio.sleep(31)  # of the virtual clock
    for _ in range(2):
        await rig.model.refresh()
        await asyncio.sleep(11)
    assert rig.roles() == (2, None, 1, 2), "the pinned version serves as soon as it is good"


@virtual
async def test_a_rollback_while_the_poll_prepares_a_newer_version() -> None:
    """The rollback is at once; the newer version then starts against the version that serves."""
    rig = Rig(1, 2)
    await rig.serve_1_then_2()
    rig.servers.servers[0].update(loaded(3))
    assert await rig.during(rig.model.refresh(), lambda: roll_back(rig)) is None
    assert rig.roles() == (1, 3, None, None)
    assert rig.model.describe()["rolled_back"] == [2]


@virtual
async def test_an_unpin_while_the_poll_prepares_the_pinned_version_again() -> None:
    """Users do not move back to the older version, which is pinned no more."""
    rig = Rig(3)
    rig.preparer.held = set()
    await rig.model.pin(3)
    rig.servers.servers[0].update(loaded(4))
    del rig.servers.servers[0][3]
    await rig.model.refresh()
    assert rig.roles() == (4, None, None, 3)
    rig.servers.servers[0].update(loaded(3))
    rig.preparer.held = {3}
    assert await rig.during(rig.model.refresh(), rig.model.unpin) is None
    assert rig.roles() == (4, None, None, None)


@virtual
async def test_a_bad_verdict_while_an_operator_pins_another_version() -> None:
    rig = Rig(1)
    await rig.model.refresh()
    scores = np.full(10, 0.02, np.float32)
    for _ in range(20):
        rig.model.scored(ModelVersion("ctr", 1), scores)
    rig.servers.servers[0].update(loaded(2))
    await rig.model.refresh()
    rig.servers.servers[0].update(loaded(3))

    def judge() -> None:
        for _ in range(20):
            rig.model.scored(ModelVersion("ctr", 2), scores + np.float32(0.8))
        assert rig.roles() == (1, None, None, None)

    assert await rig.during(rig.model.pin(3), judge) is None
    assert rig.roles() == (3, None, 1, 3)


@pytest.mark.parametrize("order", ORDERS)
def test_a_version_that_vanishes_while_an_operator_waits_for_it_does_not_serve(order: str) -> None:
    async def main() -> None:
        rig = Rig(1, 2, 3, labels={"canary": 3})
        await rig.serve_1_then_2()
        ordering = asyncio.ensure_future(ORDERS[order](rig.model))
        await rig.preparer.waiting.wait()
        del rig.servers.servers[0][3]
        polling = asyncio.ensure_future(rig.model.refresh())
        await asyncio.sleep(0.1)  # of the virtual clock: the poll knows by now
        rig.preparer.go.set()
        error, _ = await asyncio.gather(ordering, polling, return_exceptions=True)
        assert str(error) == "NOT_FOUND: version 3 of 'ctr' is not AVAILABLE"
        assert rig.roles() == (2, None, 1, None)
        assert rig.model.shadow_for(b"u") is None

    run_virtual(main)


@virtual
async def test_the_previous_version_vanishes_while_an_operator_waits() -> None:
    """A rollback needs a version that a server has; it works as soon as a server has it again."""
    rig = Rig(1, 2, 3)
    await rig.serve_1_then_2()
    pinning = asyncio.ensure_future(rig.model.pin(3))
    await rig.preparer.waiting.wait()
    del rig.servers.servers[0][1]
    polling = asyncio.ensure_future(rig.model.refresh())
    await asyncio.sleep(0.1)  # of the virtual clock
    with pytest.raises(LookupError, match="no other version"):
        rig.model.roll_back("asked")
    assert rig.roles() == (2, None, 1, None)
    rig.preparer.go.set()
    await asyncio.gather(pinning, polling)
    assert rig.roles() == (3, None, 2, 3)
    del rig.servers.servers[0][2]
    await rig.model.refresh()
    rig.servers.servers[0].update(loaded(2))
    await rig.model.refresh()
    assert rig.model.roll_back("asked") == 2


@virtual
async def test_the_label_moves_while_its_version_is_prepared() -> None:
    rig = Rig(1, 2, 3, label="stable", labels={"stable": 1})
    await rig.model.refresh()
    rig.servers.labels[0]["stable"] = 3

    def move_back() -> None:
        rig.servers.labels[0]["stable"] = 1

    assert await rig.during(rig.model.refresh(), move_back) is None
    await rig.model.refresh()
    assert rig.roles() == (1, None, None, None)


@virtual
async def test_a_cancelled_order_changes_nothing() -> None:
    rig = Rig(1, 2, 3)
    await rig.serve_1_then_2()
    pinning = asyncio.ensure_future(rig.model.pin(3))
    await rig.preparer.waiting.wait()
    pinning.cancel()
    await asyncio.gather(pinning, return_exceptions=True)
    assert rig.roles() == (2, None, 1, None)
    await rig.model.pin(1)
    assert rig.roles() == (1, None, 2, 1)
