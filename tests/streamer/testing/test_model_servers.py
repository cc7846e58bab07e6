"""One suite: the gRPC client with real servers, and the servers of the virtual clock."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import numpy as np
import pytest

from streamer.errors import PredictError, VersionGoneError
from streamer.features import Encoder
from streamer.rollout.reporting_scorer import ScoresRows
from streamer.rollout.version_labels import ModelServers
from streamer.serving.predictor import Predictor
from streamer.serving.verification import DescribesVersions
from streamer.settings.sections import PredictorSettings
from streamer.testing.model_servers import Loaded, VirtualServers
from streamer.types import Availability, BatchInputs, BidRequest, ModelVersion
from tests.streamer.serving.model_servers import Server, low
from tests.streamer.specs import small_spec

LONG = 60.0


class Control(ModelServers, DescribesVersions, Protocol):
    """The control calls of a worker."""


@asynccontextmanager
async def servers_of(
    kind: str, held: Sequence[Sequence[int]], fault: bool = False, labels: Sequence[Mapping[str, int]] = ()
) -> AsyncIterator[tuple[Control, ScoresRows]]:
    """Servers, each with its versions and `labels`, all of `small_spec`.

    With `fault` every Predict call fails. Yields both interfaces of the same servers.
    """
    if kind == "virtual":
        loaded = [{v: Loaded(small_spec(), "INTERNAL" if fault else None) for v in versions} for versions in held]
        virtual = VirtualServers(loaded, labels=[dict(of) for of in labels], call_s=0.0, control_s=0.0)
        yield virtual, virtual
        return
    async with AsyncExitStack() as stack:
        servers = [Server(low, tuple(v), small_spec().to_json(), strict=True, broken=fault) for v in held]
        for server, of_its_own in zip(servers, labels, strict=False):
            server.labels = dict(of_its_own)
        for server in servers:
            await stack.enter_async_context(server.running())
        addresses = tuple(server.address for server in servers)
        predictor = Predictor(PredictorSettings(addresses=addresses, control_timeout_ms=60_000))
        stack.push_async_callback(predictor.close)
        yield predictor.control, predictor


def rows(count: int = 4) -> BatchInputs:
    request = BidRequest("r", {}, count, rows=[b'{"ad_id":"a%d"}' % i for i in range(count)])
    return BatchInputs.whole(Encoder(small_spec()).encode(request))


pytestmark = pytest.mark.parametrize("kind", ["real", "virtual"])


async def test_available_is_what_the_servers_have(kind: str) -> None:
    async with servers_of(kind, [(1, 2), (2, 3), ()]) as (control, _):
        assert await control.available("ctr") == Availability(frozenset({1, 2, 3}), frozenset({2}))


async def test_a_label_leads_where_all_servers_say(kind: str) -> None:
    async with servers_of(kind, [(1, 2), (1, 2)], labels=[{"new": 2, "old": 1}, {"new": 2, "old": 1}]) as (control, _):
        assert await control.labelled("ctr", "new") == 2
        assert await control.labelled("ctr", "old") == 1


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        ([], "INVALID_ARGUMENT"),
        ([{"other": 1}, {"other": 1}], "INVALID_ARGUMENT"),
        ([{"stable": 1}, {}], "INVALID_ARGUMENT"),
        ([{"stable": 1}, {"stable": 2}], "FAILED_PRECONDITION"),
        ([{"stable": 3}, {"stable": 3}], "NOT_FOUND"),
        ([{"stable": 1}, {"stable": 3}], "NOT_FOUND"),
    ],
    ids=["none", "another", "on one only", "differing", "not loaded", "not loaded on one"],
)
async def test_a_label_that_servers_do_not_agree_on_leads_nowhere(
    kind: str, labels: Sequence[Mapping[str, int]], code: str
) -> None:
    async with servers_of(kind, [(1, 2), (1, 2)], labels=labels) as (control, _):
        with pytest.raises(PredictError, match=f"{code}: label 'stable' of 'ctr'"):
            await control.labelled("ctr", "stable")


async def test_a_version_tells_its_spec_and_its_signature(kind: str) -> None:
    async with servers_of(kind, [(1,)]) as (control, _):
        assert await control.feature_spec(ModelVersion("ctr", 1)) == small_spec().to_json()
        assert (await control.signature(ModelVersion("ctr", 1), "score")).inputs == Loaded(small_spec()).inputs()


async def test_scores_come_from_whichever_server_has_the_version(kind: str) -> None:
    async with servers_of(kind, [(1,), (2,)]) as (control, scorer):
        for version in (1, 2, 1, 2):
            ctr = await scorer.score(ModelVersion("ctr", version), rows(), LONG)
            assert (ctr.dtype, ctr.shape) == (np.dtype(np.float32), (4,))
        await control.warm(ModelVersion("ctr", 2), [rows()])


async def test_a_version_that_no_server_has_is_gone(kind: str) -> None:
    async with servers_of(kind, [(1,), (1, 2)]) as (control, scorer):
        with pytest.raises(VersionGoneError):
            await scorer.score(ModelVersion("ctr", 3), rows(), LONG)
        with pytest.raises(VersionGoneError):
            await control.feature_spec(ModelVersion("ctr", 3))
        with pytest.raises(VersionGoneError):
            await control.warm(ModelVersion("ctr", 3), [rows()])


async def test_a_failure_has_the_servers_status(kind: str) -> None:
    async with servers_of(kind, [(1,)], fault=True) as (control, scorer):
        for call in (
            scorer.score(ModelVersion("ctr", 1), rows(), LONG),
            control.warm(ModelVersion("ctr", 1), [rows()]),
        ):
            with pytest.raises(PredictError, match="INTERNAL"):
                await call


async def test_a_call_has_only_the_time_it_is_given(kind: str) -> None:
    async with servers_of(kind, [(1,)]) as (_, scorer):
        if isinstance(scorer, VirtualServers):
            scorer.call_s = LONG
        with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
            await scorer.score(ModelVersion("ctr", 1), rows(), 0.0)
