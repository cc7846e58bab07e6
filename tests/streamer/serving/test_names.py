"""Servers behind a `dns:///` name: they come, go, and are judged one by one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
import structlog

from streamer.errors import PredictError
from streamer.metrics import Metrics
from streamer.serving.control import Control
from streamer.serving.names import Name, host_and_port, look_up
from streamer.serving.predictor import Predictor
from streamer.serving.servers import Servers
from streamer.settings.sections import PredictorSettings
from streamer.testing.virtual_loop import virtual
from streamer.types import Availability, BatchInputs, ModelVersion
from tests.streamer.scoring.encoded import encoded
from tests.streamer.serving.model_servers import Server

V = ModelVersion("ctr", 3)


class Zone:
    """A zone of DNS in which every name leads to the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self.hangs = False

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if not self.addresses:
            raise OSError(f"{host}:{port} not known")
        return self.addresses


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("dns:///models:8500", ("models", 8500)),
        ("dns:models.example:80", ("models.example", 80)),
        ("dns://10.0.0.2/models:8500", None),
        ("models:8500", None),
        ("ipv4:10.0.0.1:8500,10.0.0.2:8500", None),
        ("unix:/tmp/models", None),
    ],
)
def test_names_are_recognised(address: str, found: tuple[str, int] | None) -> None:
    assert host_and_port(address) == found


@virtual
async def test_a_name_is_looked_up_every_five_seconds() -> None:
    zone = Zone("10.0.0.1:8500")
    name = Name("dns:///models:8500", zone.look_up)
    for now in (0.0, 1.0, 4.9):
        await name.refresh(now, 1.0)
        assert zone.asked == 1
        assert name.addresses == {"10.0.0.1:8500"}
    zone.addresses = ["10.0.0.2:8500"]
    for now in (5.0, 59.0):
        await name.refresh(now, 1.0)
        assert name.addresses == {"10.0.0.1:8500", "10.0.0.2:8500"}, "a DNS server may give a part of them"
    await name.refresh(64.0, 1.0)
    assert name.addresses == {"10.0.0.2:8500"}


@virtual
async def test_addresses_that_come_and_go_for_months_are_forgotten() -> None:
    zone = Zone()
    name = Name("dns:///models:8500", zone.look_up)
    for minute in range(50):
        zone.addresses = [f"10.0.0.{minute}:8500"]
        await name.refresh(minute * 61.0, 1.0)
    assert name.addresses == {"10.0.0.49:8500"}
    assert len(name._seen) == 1  # noqa: SLF001  what must not grow


@virtual
async def test_a_failed_look_up_changes_nothing_and_one_that_hangs_ends() -> None:
    zone = Zone("10.0.0.1:8500")
    name = Name("dns:///models:8500", zone.look_up)
    await name.refresh(0.0, 1.0)
    zone.addresses = []
    await name.refresh(1000.0, 1.0)
    assert name.addresses == {"10.0.0.1:8500"}
    assert name.error == "models:8500 not known"
    zone.hangs = True
    start = asyncio.get_running_loop().time()
    for now in (2000.0, 3000.0):
        await name.refresh(now, 1.0)
    assert asyncio.get_running_loop().time() - start == 2.0
    assert zone.asked == 3, "a look-up that hangs is not started again"
    assert name.addresses == {"10.0.0.1:8500"}
    name.close()


@asynccontextmanager
async def servers_behind(zone: Zone, now: list[float]) -> AsyncIterator[tuple[Servers, Control, Metrics]]:
    metrics = Metrics()
    settings = PredictorSettings(addresses=("dns:///models:8500",))
    servers = Servers(settings, metrics, lambda: now[0], structlog.get_logger(), zone.look_up)
    try:
        yield servers, Control(servers, 60.0), metrics
    finally:
        await servers.close()


def circuits(metrics: Metrics) -> set[str]:
    family = next(f for f in metrics.registry.collect() if f.name == "streamer_predictor_circuit_open")
    return {sample.labels["address"] for sample in family.samples}


async def test_servers_are_connected_and_removed_as_the_name_says() -> None:
    async with AsyncExitStack() as stack:
        one, two, three = [await stack.enter_async_context(Server(versions=(v,)).running()) for v in (1, 2, 3)]
        zone, now = Zone(one.address, two.address), [0.0]
        async with servers_behind(zone, now) as (servers, control, metrics):
            assert list(servers.channels) == ["dns:///models:8500"]
            for addresses, versions in (((one, two), {1, 2}), ((two, three), {2, 3}), ((two,), {2})):
                zone.addresses = [server.address for server in addresses]
                assert (await control.available("ctr")).somewhere == versions
                assert set(servers.channels) == set(servers.replicas.servers) == circuits(metrics) == {*zone.addresses}
                now[0] += 60.0
            zone.addresses = []
            assert (await control.available("ctr")).somewhere == {2}, "the addresses stay when DNS fails"


async def test_servers_of_one_name_are_judged_one_by_one() -> None:
    """A version is called where it is loaded, and starts when all of them have it."""
    async with AsyncExitStack() as stack:
        without = await stack.enter_async_context(Server(versions=(2,), strict=True).running())
        having = await stack.enter_async_context(Server(versions=(2, 3), strict=True).running())
        async with servers_behind(Zone(without.address, having.address), [0.0]) as (servers, control, _):
            for _ in range(5):
                found = await control.available("ctr")
                assert found == Availability(frozenset({2, 3}), frozenset({2}))
            assert servers.replicas.holders(V) == [having.address]


async def test_localhost_is_resolved_and_called() -> None:
    async with Server().running() as server:
        port = server.address.rpartition(":")[2]
        predictor = Predictor(PredictorSettings(addresses=(f"dns:///localhost:{port}",)))
        try:
            rows = BatchInputs.whole(encoded(1, 4))
            assert len(await predictor.score(V, rows, 60.0)) == 4, "gRPC resolves it before the first question"
            assert (await predictor.control.available("ctr")).somewhere == {3}
            server.answer = grpc.StatusCode.UNAVAILABLE
            with pytest.raises(PredictError, match="UNAVAILABLE"):
                await predictor.score(V, rows, 60.0)
        finally:
            await predictor.close()
    assert list(await look_up("localhost", 80)) == ["127.0.0.1:80"]
