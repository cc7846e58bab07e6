"""A version gets users when the ads of its spec are loaded; until then another one serves."""

import asyncio
from dataclasses import dataclass, field
from weakref import WeakSet

import pytest

from streamer.ads import AdTable, RowForm
from streamer.errors import PredictError, TableLoadingError
from streamer.features import FeatureSpec
from streamer.testing.ad_table import FakeAds
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import virtual
from streamer.types import ModelVersion
from tests.streamer.rollout.switching import ANOTHER_SPEC, ONE_SPEC, Worker, loaded
from tests.streamer.specs import SMALL

THIRD_SPEC = FeatureSpec.from_mapping({**SMALL, "embedding_dim": 3})


@dataclass
class Tables:
    """The tables of a process, by the hash of their spec.

    Attributes:
        ready: the specs whose tables are loaded.
        most: tables in memory.
        asked: the hashes in the order of the requests.
    """

    ready: set[str]
    most: int = 2
    asked: list[str] = field(default_factory=list)
    users: dict[str, WeakSet[FakeAds]] = field(default_factory=dict)
    loading: set[str] = field(default_factory=set)

    def open(self, form: RowForm, spec_hash: str) -> AdTable:
        self.asked.append(spec_hash)
        in_memory = {spec for spec, users in self.users.items() if users} | self.loading | {spec_hash}
        if len(in_memory) > self.most:
            raise TableLoadingError("2 tables are in memory", has_no_space=True)
        if spec_hash not in self.ready:
            self.loading.add(spec_hash)
            raise TableLoadingError("reading topic ads: 43 %")
        self.loading.discard(spec_hash)
        table = FakeAds(form)
        self.users.setdefault(spec_hash, WeakSet()).add(table)
        return table


class CountedServers(VirtualServers):
    """Counts the specs that were asked for."""

    specs = 0

    async def feature_spec(self, version: ModelVersion) -> str:
        self.specs += 1
        return await super().feature_spec(version)


def serving(worker: Worker) -> object:
    return worker.model.describe()["serving"]


@virtual
async def test_a_version_of_another_spec_serves_when_its_ads_are_loaded() -> None:
    servers, tables = CountedServers([loaded(1)]), Tables({ONE_SPEC.hash})
    worker = Worker(servers, tables=tables)
    await worker.start()
    servers.servers[0].update(loaded(2, specs={2: ANOTHER_SPEC}))
    await worker.traffic(1.0, every_s=0.02)
    assert serving(worker) == 1
    assert {call.version for call in servers.calls} == {1}
    assert tables.asked.count(ANOTHER_SPEC.hash) > 3, "at every poll"
    assert servers.specs == 2, "the servers are not asked again meanwhile"
    assert (
        worker.metrics.registry.get_sample_value("streamer_rollout_bad_version", {"model": "ctr", "version": "2"})
        is None
    )
    tables.ready.add(ANOTHER_SPEC.hash)
    await worker.traffic(1.0, every_s=0.02)
    assert serving(worker) == 2
    answers = await worker.settle()
    assert {answer["status"] for answer in answers} == {"ok"}


@virtual
async def test_a_process_that_starts_serves_an_older_version_whose_ads_are_there() -> None:
    servers = VirtualServers([loaded(1, 2, specs={2: ANOTHER_SPEC})])
    tables = Tables({ONE_SPEC.hash})
    worker = Worker(servers, tables=tables)
    await worker.start()
    assert serving(worker) == 1
    tables.ready.add(ANOTHER_SPEC.hash)
    await asyncio.sleep(2.0)
    assert serving(worker) == 2


@virtual
async def test_without_another_version_the_start_waits_and_says_how_far_the_load_is() -> None:
    tables = Tables(set())
    worker = Worker(VirtualServers([loaded(1)]), tables=tables)
    with pytest.raises(TableLoadingError, match="reading topic ads: 43 %"):
        await worker.models.refresh()
    tables.ready.add(ONE_SPEC.hash)
    await worker.start()
    assert serving(worker) == 1


@virtual
async def test_a_start_with_versions_of_three_specs_says_how_far_the_load_is_of_those_that_have_memory() -> None:
    tables = Tables(set(), most=2)
    servers = CountedServers([loaded(1, 2, 3, specs={1: THIRD_SPEC, 2: ANOTHER_SPEC})])
    worker = Worker(servers, tables=tables)
    for _ in range(30):
        with pytest.raises(TableLoadingError, match="reading topic ads: 43 %"):
            await worker.models.refresh()
        await asyncio.sleep(0.2)
    assert servers.specs == 3, "the servers are not asked again meanwhile"
    tables.ready.add(ONE_SPEC.hash)
    await asyncio.sleep(1.1)
    await worker.start()
    assert serving(worker) == 3


@virtual
async def test_an_order_for_a_version_whose_ads_load_fails_and_can_be_repeated() -> None:
    tables = Tables({ONE_SPEC.hash})
    worker = Worker(VirtualServers([loaded(1, 2, specs={1: ANOTHER_SPEC})]), tables=tables)
    await worker.start()
    with pytest.raises(PredictError, match="reading topic ads: 43 %"):
        await worker.model.pin(1)
    assert serving(worker) == 2
    tables.ready.add(ANOTHER_SPEC.hash)
    await worker.model.pin(1)
    assert serving(worker) == 1


@virtual
async def test_the_previous_version_gives_its_memory_up_for_a_third_spec() -> None:
    servers = VirtualServers([loaded(1)])
    tables = Tables({ONE_SPEC.hash, ANOTHER_SPEC.hash, THIRD_SPEC.hash})
    worker = Worker(servers, tables=tables)
    await worker.start()
    servers.servers[0].update(loaded(2, specs={2: ANOTHER_SPEC}))
    await worker.traffic(1.0, every_s=0.02)
    assert (serving(worker), worker.model.describe()["previous"]) == (2, 1)
    servers.servers[0].update(loaded(3, specs={3: THIRD_SPEC}))
    await worker.traffic(1.0, every_s=0.02)
    assert (serving(worker), worker.model.describe()["previous"]) == (3, 2)
    assert not tables.users[ONE_SPEC.hash]
    await worker.settle()


@virtual
async def test_the_previous_version_stays_where_that_frees_no_memory() -> None:
    """Its table is that of the shadow version, too."""
    servers = VirtualServers([loaded(1, 2)])
    tables = Tables({ONE_SPEC.hash, ANOTHER_SPEC.hash, THIRD_SPEC.hash})
    worker = Worker(servers, tables=tables)
    await worker.start()
    servers.servers[0].update(loaded(3, specs={3: ANOTHER_SPEC}))
    await asyncio.sleep(1.0)
    await worker.model.shadow(1, 0.5)
    servers.servers[0].update(loaded(4, specs={4: THIRD_SPEC}))
    await asyncio.sleep(1.0)
    assert (serving(worker), worker.model.describe()["previous"]) == (3, 2)


@virtual
async def test_a_version_that_was_replaced_by_one_of_another_spec_gives_way_while_its_ads_load() -> None:
    servers = VirtualServers([loaded(1, 2)])
    tables = Tables({ONE_SPEC.hash})
    worker = Worker(servers, tables=tables)
    await worker.start()
    servers.servers[0].update(loaded(2, specs={2: ANOTHER_SPEC}))
    await asyncio.sleep(11.0)
    assert serving(worker) == 1
    tables.ready.add(ANOTHER_SPEC.hash)
    await asyncio.sleep(2.0)
    assert serving(worker) == 2
