"""Bad versions: each is rejected and named, and the best of the others serves, also at a start."""

import asyncio
from typing import Any

import pytest
import structlog

from streamer.errors import BadReplyError, PredictError, SpecError
from streamer.features import Encoder
from streamer.metrics import Metrics
from streamer.rollout.controller import ModelController
from streamer.serving.warmup import Preparer
from streamer.settings import Settings
from streamer.testing.model_servers import Loaded, VirtualServers
from streamer.testing.virtual_loop import run_virtual, virtual
from streamer.types import ModelVersion
from tests.streamer.rollout.switching import ONE_SPEC, loaded


class FaultyServers(VirtualServers):
    """Servers on which the specs of some versions cannot be read, for these reasons."""

    def __init__(self, *versions: int, faults: dict[int, Exception], labels: dict[str, int] | None = None) -> None:
        super().__init__([loaded(*versions)], [labels] if labels else [])
        self.faults = faults

    async def feature_spec(self, version: ModelVersion) -> str:
        if version.version in self.faults:
            raise self.faults[version.version]
        return await super().feature_spec(version)


def model_on(servers: VirtualServers, **predictor: Any) -> tuple[ModelController, Metrics]:
    settings = Settings.model_validate({"rollout": {"ramp_s": 0.0}, "predictor": predictor})
    metrics, clock = Metrics(), asyncio.get_running_loop().time
    parts: dict[str, Any] = {"metrics": metrics, "log": structlog.get_logger(), "clock": clock}
    return ModelController("ctr", servers, Preparer(servers, settings), settings, None, **parts), metrics


def bad(metrics: Metrics, version: int) -> float | None:
    return metrics.registry.get_sample_value("streamer_rollout_bad_version", {"model": "ctr", "version": str(version)})


FAULTS = [
    SpecError("spec of ctr/3: not valid JSON"),
    BadReplyError("INVALID_REPLY", "ctr/3: its feature_spec signature returned no string"),
    PredictError("FAILED_PRECONDITION", "Could not find variable"),
    IndexError("tuple index out of range"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_at_a_start_the_newest_good_version_serves(fault: Exception) -> None:
    async def run() -> None:
        servers = FaultyServers(1, 2, 3, faults={3: fault})
        model, metrics = model_on(servers)
        await model.refresh()
        described = model.describe()
        assert (described["serving"], bad(metrics, 3)) == (2, 1)
        assert isinstance(described["bad"], dict)
        assert list(described["bad"]) == ["3"]
        servers.faults.clear()
        await asyncio.sleep(29)  # of the virtual clock
        await model.refresh()
        assert model.describe()["serving"] == 2
        await asyncio.sleep(1)
        await model.refresh()
        assert (model.describe()["serving"], model.describe()["bad"], bad(metrics, 3)) == (3, {}, None)

    run_virtual(run)


@virtual
async def test_a_version_whose_calls_hang_is_no_outage() -> None:
    """At a start and after the serving version has vanished; a slow server alone makes no version bad."""
    hang = PredictError("DEADLINE_EXCEEDED", "injected fault")
    servers = FaultyServers(1, 2, 3, faults={3: hang})
    model, _ = model_on(servers)
    await model.refresh()
    assert model.describe()["serving"] == 2
    servers.servers[0].update(loaded(4))
    servers.faults[4] = hang
    await model.refresh()
    del servers.servers[0][2]
    await model.refresh()
    assert model.describe()["serving"] == 1

    servers = FaultyServers(1, 2, faults={1: hang, 2: hang})
    model, _ = model_on(servers)
    with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
        await model.refresh()
    servers.faults.clear()
    await model.refresh()
    assert model.describe()["serving"] == 1
    await asyncio.sleep(30)  # of the virtual clock
    await model.refresh()
    assert model.describe()["serving"] == 2


@virtual
async def test_at_a_start_without_a_good_version_each_one_is_named() -> None:
    faults: dict[int, Exception] = {2: SpecError("no JSON"), 3: IndexError("3")}
    model, metrics = model_on(FaultyServers(2, 3, faults=faults))
    with pytest.raises(PredictError, match=r"^UNAVAILABLE: version 2: no JSON; version 3: INTERNAL: .*IndexError"):
        await model.refresh()
    assert (bad(metrics, 2), bad(metrics, 3)) == (1, 1)
    model.servers.servers[0].pop(2)  # type: ignore[attr-defined]
    with pytest.raises(PredictError, match=r"^UNAVAILABLE: version 3"):
        await model.refresh()
    assert bad(metrics, 2) is None, "a version that has vanished is not bad any more"


@virtual
async def test_a_bad_version_does_not_take_users_from_the_serving_one() -> None:
    servers = FaultyServers(1, faults={2: SpecError("no JSON"), 3: TypeError("defect")})
    model, _ = model_on(servers)
    await model.refresh()
    servers.servers[0].update(loaded(2, 3))
    await model.refresh()
    assert model.describe()["serving"] == 1
    assert model.describe()["bad"] == {
        "2": "no JSON",
        "3": "INTERNAL: ctr/3: internal error: TypeError('defect')",
    }


@virtual
async def test_the_serving_version_vanishes_while_the_newest_one_is_bad() -> None:
    servers = FaultyServers(1, 2, faults={3: SpecError("no JSON")})
    model, _ = model_on(servers)
    await model.refresh()
    servers.servers[0].update(loaded(3))
    del servers.servers[0][2]
    await model.refresh()
    assert model.describe()["serving"] == 1, "in the same poll"


@virtual
async def test_at_a_start_a_label_on_a_bad_version_leads_to_the_newest_one_before_it() -> None:
    """Not to version 4, which has no label yet; and without an older one, to none."""
    servers = FaultyServers(1, 2, 3, 4, faults={3: SpecError("no JSON")}, labels={"stable": 3})
    model, _ = model_on(servers, labels={"ctr": "stable"})
    await model.refresh()
    assert model.describe()["serving"] == 2
    servers.faults.clear()
    await asyncio.sleep(30)  # of the virtual clock
    await model.refresh()
    assert model.describe()["serving"] == 3

    servers = FaultyServers(3, 4, faults={3: SpecError("no JSON")}, labels={"stable": 3})
    model, _ = model_on(servers, labels={"ctr": "stable"})
    with pytest.raises(PredictError, match="version 3: no JSON"):
        await model.refresh()


@virtual
async def test_an_order_for_a_bad_version_is_rejected_and_a_pin_on_one_does_not_stop_the_service() -> None:
    servers = FaultyServers(1, 2, faults={2: SpecError("no JSON")})
    model, _ = model_on(servers)
    await model.refresh()
    with pytest.raises(PredictError, match="FAILED_PRECONDITION: version 2 of 'ctr': no JSON"):
        await model.pin(2)
    assert (model.describe()["serving"], model.describe()["pinned"]) == (1, None)
    await model.pin(1)
    servers.servers[0].update(loaded(3))
    del servers.servers[0][1]
    await model.refresh()
    servers.faults[1] = SpecError("another folder")
    servers.servers[0].update(loaded(1))
    for _ in range(3):
        await model.refresh()
    assert (model.describe()["serving"], model.describe()["pinned"]) == (3, 1)


def test_a_version_whose_encoder_raises_on_a_recent_request_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The serving version's encoder could read each recent request."""

    def raise_overflow(*_: object) -> None:
        raise OverflowError("int too large")

    async def run() -> None:
        servers = VirtualServers([loaded(1)])
        model, _ = model_on(servers)
        await model.refresh()
        model.preparer.remember(b'{"request_id": "r", "candidates": [{"ad_id": "a"}]}', ())
        monkeypatch.setattr(Encoder, "encode", raise_overflow)
        servers.servers[0].update(loaded(2))
        await model.refresh()
        assert model.describe()["serving"] == 1
        assert "OverflowError('int too large')" in str(model.describe()["bad"])

    run_virtual(run)


@virtual
async def test_half_a_version_gets_no_users() -> None:
    """Without its variables a version is AVAILABLE, its spec is right, and each call fails; no request is known yet."""
    servers = VirtualServers([loaded(1) | {2: Loaded(ONE_SPEC, fault="FAILED_PRECONDITION")}])
    model, _ = model_on(servers)
    await model.refresh()
    assert servers.warmed == [2, 1]
    assert model.describe()["serving"] == 1
    with pytest.raises(PredictError, match="FAILED_PRECONDITION"):
        await model.pin(2)
