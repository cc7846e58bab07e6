"""Tables follow their topic: load, changes, bad records, processes that come and go, topics that change."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from streamer.assembly import Assembly
from streamer.errors import ConfigError, TableLoadingError
from streamer.metrics import Metrics
from streamer.settings import Settings
from streamer.tables.pace import MAX_SLICE_S
from streamer.tables.store import KEPT_S as STORE_KEPT_S
from streamer.tasks import TaskOwner
from streamer.testing.virtual_loop import run_virtual
from streamer.types import DeadLetter, Origin
from tests.streamer.tables.machine import KEPT_S, Machine, PriceForm, Process, offsets, prices

Run = Callable[[Callable[[Machine], Awaitable[None]]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a test on the virtual clock, with a machine."""

    def on_a_machine(test: Callable[[Machine], Awaitable[None]]) -> None:
        async def main() -> None:
            await test(Machine(tmp_path / "tables"))

        run_virtual(main)

    return on_a_machine


async def started(machine: Machine, **form: float) -> Process:
    process = Process(machine, form=PriceForm(**form))  # type: ignore[arg-type]
    await process.start()
    return process


def test_a_table_is_loaded_to_the_end_of_the_topic_before_it_is_used_and_followed_after(run: Run) -> None:
    async def follow(machine: Machine) -> None:
        for n in range(2000):
            machine.put(f"ad{n}", n)
        process = await started(machine)
        with capture_logs() as logs:
            table = await process.opened()
        assert prices(table, "ad0", "ad1999", "none") == [0, 1999, None]
        assert sum(offsets(table)) == 2000
        assert process.writes
        assert [entry["event"] for entry in logs] == [
            "writes the table of ads",
            "table of ads loads",
            "table of ads is loaded",
            "table of ads is ready",
        ]
        machine.put("ad0", 7)
        machine.put("ad1", None)
        machine.put("new", 1)
        await asyncio.sleep(0.5)
        assert prices(table, "ad0", "ad1", "new") == [7, None, 1]
        assert process.count("changes_total", outcome="deleted") == 1
        assert process.count("lag_records", spec="spec") == 0

    run(follow)


def test_an_empty_topic_is_a_table_without_ads(run: Run) -> None:
    async def follow(machine: Machine) -> None:
        process = await started(machine)
        table = await process.opened()
        assert prices(table, "a") == [None]
        machine.put("a", 3)
        await asyncio.sleep(0.5)
        assert prices(table, "a") == [3]

    run(follow)


def test_a_bad_record_is_a_dead_letter_and_the_former_row_stays(run: Run) -> None:
    async def follow(machine: Machine) -> None:
        machine.put("a", 3, partition=1)
        process = await started(machine)
        table = await process.opened()
        machine.produce(b"a", b"[", partition=1)
        machine.produce(None, b"{}", partition=1)
        await asyncio.sleep(0.5)
        assert prices(table, "a") == [3]
        assert process.letters == [
            DeadLetter(b"a", b"[", (), Origin("ads", 1, 1), 0, "table", "value: no JSON"),
            DeadLetter(None, b"{}", (), Origin("ads", 1, 2), 0, "table", "key: expected the ad id, got nothing"),
        ]
        assert offsets(table) == (0, 3)
        assert process.count("changes_total", outcome="rejected") == 2

    run(follow)


def test_no_position_passes_a_dead_letter_that_is_not_acknowledged_and_reading_pauses(run: Run) -> None:
    async def follow(machine: Machine) -> None:
        process = await started(machine)
        table = await process.opened()
        process.accepts.clear()
        machine.produce(b"bad", b"[", partition=0)
        for n in range(5000):
            machine.put(f"ad{n}", n, partition=0)
        await asyncio.sleep(30.0)
        assert offsets(table) == (0, 0)
        for gauge in ("age_seconds", "lag_seconds"):
            assert process.count(gauge, spec="spec") > 25  # type: ignore[operator]
        (reader,) = [consumer for consumer in process.consumers if consumer.is_started]
        assert await reader.position(machine.group.tops[0]) <= 32, "one slice is in memory"
        process.accepts.set()
        await asyncio.sleep(5.0)
        assert prices(table, "ad4999") == [4999]
        assert len(process.letters) == 1

    run(follow)


def test_readyz_names_dead_letters_that_are_not_acknowledged(run: Run) -> None:
    async def waits(machine: Machine) -> None:
        machine.produce(b"bad", b"[", partition=0)
        process = await started(machine)
        process.accepts.clear()
        with pytest.raises(TableLoadingError, match=r"topic ads: dead letters that .* has not taken yet: 1"):
            await process.opened(within_s=10.0)
        process.accepts.set()
        await process.opened()

    run(waits)


def test_a_full_table_rejects_new_ads_and_takes_changes_of_known_ones(run: Run) -> None:
    async def follow(machine: Machine) -> None:
        machine.max_bytes, ads = 2**20, [f"ad{n}" for n in range(10_000)]
        machine.put("ad0", 1)
        process = await started(machine)
        table = await process.opened()
        for ad_id in ads:
            machine.put(ad_id, 2)
        machine.put("ad0", -1)
        await asyncio.sleep(120.0)
        known = [price is not None for price in prices(table, *ads)]
        assert 1000 < sum(known) < len(ads)
        assert prices(table, "ad0") == [-1]
        assert len(process.letters) == len(ads) - sum(known)
        assert {letter.reason for letter in process.letters} == {"table is full (ads.max_bytes)"}

    run(follow)


def test_each_slice_is_short_also_while_10_000_ads_a_second_change(run: Run) -> None:
    """Between two slices the loop serves others; what is not applied yet stays with the brokers."""

    async def follow(machine: Machine) -> None:
        process = await started(machine, cost_s=30e-6)
        table = await process.opened()
        for n in range(10_000):
            machine.put(f"ad{n % 3000}", n)
            if n % 100 == 99:
                await asyncio.sleep(0.01)
                assert process.count("lag_records", spec="spec") < 2000  # type: ignore[operator]
        await asyncio.sleep(1.0)
        assert prices(table, "ad2999", "ad0") == [8999, 9000]
        assert process.count("lag_records", spec="spec") == 0
        assert 0 < max(process.form.slices[1:]) <= MAX_SLICE_S

    run(follow)


def test_one_process_writes_and_the_others_read_the_same_pages(run: Run) -> None:
    async def share(machine: Machine) -> None:
        for n in range(500):
            machine.put(f"ad{n}", n)
        first = await started(machine)
        table = await first.opened()
        second = await started(machine)
        began = machine.loop.time()
        other = await second.opened(within_s=2.0)
        assert machine.loop.time() - began < 2.0
        assert (first.writes, second.writes) == (True, False)
        machine.put("ad7", 70)
        await asyncio.sleep(0.5)
        assert prices(table, "ad7") == prices(other, "ad7") == [70]
        assert offsets(table) == offsets(other)
        assert second.count("changes_total", outcome="stored") == 0

        await first.stop()
        machine.put("ad8", 80)
        await asyncio.sleep(1.0)
        assert second.writes
        assert prices(other, "ad7", "ad8") == [70, 80]
        assert second.count("changes_total", outcome="stored") == 1, "it goes on at the position"

    run(share)


def test_a_process_that_starts_again_reads_only_what_has_changed(run: Run) -> None:
    async def again(machine: Machine) -> None:
        for n in range(500):
            machine.put(f"ad{n}", n)
        process = await started(machine)
        await process.opened()
        await process.stop()
        machine.put("ad1", None)
        machine.put("ad2", 20)
        process = await started(machine)
        table = await process.opened(within_s=2.0)
        assert prices(table, "ad0", "ad1", "ad2") == [0, None, 20]
        assert process.count("changes_total", outcome="stored") == 1

    run(again)


def test_a_table_that_nobody_has_written_for_an_hour_is_loaded_again(run: Run) -> None:
    """Tombstones of deleted ads may be gone."""

    async def again(machine: Machine) -> None:
        for n in range(500):
            machine.put(f"ad{n}", n)
        process = await started(machine)
        await process.opened()
        await process.stop()
        await asyncio.sleep(3700.0)
        process = await started(machine)
        await process.opened()
        assert process.count("changes_total", outcome="stored") == 500

    run(again)


def test_an_idle_topic_keeps_its_table_young(run: Run) -> None:
    async def idle(machine: Machine) -> None:
        machine.put("a", 1)
        process = await started(machine)
        table = await process.opened()
        await asyncio.sleep(60.0)
        assert prices(table, "a") == [1]
        assert process.count("age_seconds", spec="spec") <= 6  # type: ignore[operator]
        assert process.count("lag_seconds", spec="spec") < 1  # type: ignore[operator]

    run(idle)


def test_while_no_broker_answers_the_rows_stay_and_their_age_grows(run: Run) -> None:
    async def outage(machine: Machine) -> None:
        machine.put("a", 1)
        process = await started(machine)
        table = await process.opened()
        process.cut_off()
        machine.put("a", 2)
        await asyncio.sleep(100.0)
        assert prices(table, "a") == [1]
        assert process.count("age_seconds", spec="spec") >= 90  # type: ignore[operator]
        assert process.writes
        process.cut_off(is_cut_off=False)
        await asyncio.sleep(2.5)
        assert prices(table, "a") == [2]
        assert process.count("age_seconds", spec="spec") < 5  # type: ignore[operator]

    run(outage)


def test_a_long_outage_gives_the_lock_to_a_process_that_reaches_the_brokers(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.tables.follower._GIVE_UP_S", 20.0)

    async def outage(machine: Machine) -> None:
        machine.put("a", 1)
        cut_off, other = await started(machine), await started(machine)
        await cut_off.opened()
        table = await other.opened()
        assert cut_off.writes

        cut_off.cut_off()
        machine.put("a", 2)
        await asyncio.sleep(22.0)
        assert other.writes
        assert prices(table, "a") == [2]

    run(outage)


def test_a_writer_that_was_paused_for_more_than_an_hour_loads_the_table_again(run: Run) -> None:
    """The topic has lost the deletion of an ad meanwhile."""

    async def pause(machine: Machine) -> None:
        for n in range(100):
            machine.put(f"ad{n}", n, partition=0)
        process = await started(machine)
        table = await process.opened()
        machine.paused_s = 3700.0
        machine.group.delete_before(0, 1)
        machine.put("ad1", 7, partition=0)
        await asyncio.sleep(5.0)
        assert prices(table, "ad0", "ad1", "ad2") == [None, 7, 2]
        assert process.writes

    run(pause)


def test_readyz_says_why_a_table_is_not_loaded(run: Run) -> None:
    async def waits(machine: Machine) -> None:
        for n in range(3000):
            machine.put(f"ad{n}", n)
        machine.is_away = True
        process = await started(machine)
        said = set()
        for n in range(200):
            try:
                process.tables.open(process.form, "spec")
            except TableLoadingError as error:
                said.add(error.detail)
            if n == 40:
                machine.is_away = False
            await asyncio.sleep(0.05 if n < 100 else 0)
        assert any("no broker answers" in text for text in said)
        assert "reading topic ads: 0 %" in said

    run(waits)


def test_a_topic_that_is_created_again_is_read_when_it_is_filled_again(run: Run) -> None:
    async def again(machine: Machine) -> None:
        for n in range(100):
            machine.put(f"ad{n}", n)
        processes = [await started(machine), await started(machine)]
        tables = [await process.opened() for process in processes]
        machine.group.recreate()
        await asyncio.sleep(10.0)
        machine.put("ad1", 1000)
        await asyncio.sleep(5.0)
        for table in tables:
            assert prices(table, "ad0", "ad1") == [0, 1], "the former rows"
        for n in range(95):
            machine.put(f"ad{n}", 1000 + n)
        await asyncio.sleep(5.0)
        for table in tables:
            assert prices(table, "ad0", "ad94", "ad99") == [1000, 1094, None]
        assert [process.count("reloads_total", reason="recreated") for process in processes] == [1, 0]
        assert len(list(machine.folder.iterdir())) == 1, "the former store is gone"

    run(again)


@pytest.mark.slow
def test_a_topic_that_stays_smaller_is_used_after_ten_minutes(run: Run) -> None:
    async def again(machine: Machine) -> None:
        for n in range(100):
            machine.put(f"ad{n}", n)
        process = await started(machine)
        table = await process.opened()
        machine.group.recreate()
        machine.put("ad0", 7)
        await asyncio.sleep(500.0)
        assert prices(table, "ad0", "ad1") == [0, 1]
        await asyncio.sleep(150.0)
        assert prices(table, "ad0", "ad1") == [7, None]

    run(again)


@pytest.mark.parametrize("reason", ["truncated", "deleted"])
def test_a_position_that_the_log_has_lost_loads_the_table_again(run: Run, reason: str) -> None:
    async def lost(machine: Machine) -> None:
        for n in range(100):
            machine.put(f"ad{n}", n, partition=0)
        process = await started(machine)
        table = await process.opened()
        if reason == "truncated":
            machine.group.truncate(0, 90)
        else:
            process.consumers[-1].pause(*machine.group.tops)
            for n in range(100, 110):
                machine.put(f"ad{n}", n, partition=0)
            machine.group.delete_before(0, 105)
            process.consumers[-1].resume(*machine.group.tops)
        await asyncio.sleep(5.0)
        assert process.count("reloads_total", reason=reason) == 1
        expected = [0, None, None] if reason == "truncated" else [None, None, 109]
        assert prices(table, "ad0", "ad99", "ad109") == expected
        assert process.writes

    run(lost)


def test_an_added_partition_is_part_of_the_positions(run: Run) -> None:
    async def added(machine: Machine) -> None:
        process = await started(machine)
        table = await process.opened()
        machine.group.add_partition()
        machine.put("a", 1, partition=2)
        await asyncio.sleep(3.0)
        assert prices(table, "a") == [1]
        assert offsets(table) == (0, 0, 1)

    run(added)


def test_a_topic_with_too_many_partitions_says_so_and_the_rows_stay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.tables.follower.MAX_PARTITIONS", 2)

    async def added(machine: Machine) -> None:
        machine.put("a", 1)
        process = await started(machine)
        table = await process.opened()
        machine.group.add_partition()
        with capture_logs() as logs:
            await asyncio.sleep(4.0)
        waits = {entry["error"] for entry in logs if entry["event"] == "table of ads waits"}
        assert waits == {"ads.topic: ads has 3 partitions, at most 2 are possible"}
        assert prices(table, "a") == [1]
        with pytest.raises(TableLoadingError, match="ads has 3 partitions, at most 2"):
            await process.opened(PriceForm("b" * 32), within_s=5.0)

    run(added)


def test_a_second_spec_is_loaded_beside_and_a_third_one_waits_for_memory(run: Run) -> None:
    async def specs(machine: Machine) -> None:
        for n in range(100):
            machine.put(f"ad{n}", n)
        process = await started(machine)
        forms = [PriceForm(letter * 32) for letter in "abc"]
        first = await process.opened(forms[0])
        with pytest.raises(TableLoadingError, match="reading topic ads: 0 %"):
            process.tables.open(forms[1], "other")
        second = await process.opened(forms[1])
        assert prices(first, "ad7") == prices(second, "ad7") == [7]
        with capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(TableLoadingError, match="2 tables are in memory"):
                    process.tables.open(forms[2], "third")
        assert [(entry["log_level"], entry["spec_hash"]) for entry in logs] == [("warning", "third")]
        del first
        await asyncio.sleep(KEPT_S - 5)
        assert prices(second, "ad7") == [7]
        await asyncio.sleep(10)
        assert len(list(machine.folder.iterdir())) == 1, "no version uses the first one"
        third = await process.opened(forms[2])
        assert prices(third, "ad7") == [7]

    run(specs)


def test_a_process_has_room_for_two_tables_of_each_model(run: Run) -> None:
    async def models(machine: Machine) -> None:
        settings = Settings.model_validate(
            {"predictor": {"models": ["one", "two"]}, "ads": {"topic": "ads", "directory": str(machine.folder)}}
        )
        log, clock = structlog.get_logger(), machine.loop.time
        built = Assembly(settings, Metrics(), log, clock, TaskOwner().spawn).ad_tables()
        assert built is not None
        said = []
        async with built.running() as tables:
            for letter in "abcde":
                with pytest.raises(TableLoadingError) as failure:
                    tables.open(PriceForm(letter * 32), letter)
                said.append(failure.value.has_no_space)
        assert said == [False] * 4 + [True]

    run(models)


def test_versions_of_one_spec_share_a_table_that_stays_while_one_of_them_is_there(run: Run) -> None:
    async def versions(machine: Machine) -> None:
        machine.put("a", 1)
        process = await started(machine)
        old = await process.opened()
        new = process.tables.open(PriceForm(), "spec")
        del old
        await asyncio.sleep(2 * KEPT_S)
        machine.put("a", 2)
        await asyncio.sleep(0.5)
        assert prices(new, "a") == [2]

    run(versions)


def test_an_end_of_the_process_keeps_the_table_for_the_next_one(run: Run) -> None:
    async def end(machine: Machine) -> None:
        machine.put("a", 1)
        process = await started(machine)
        await process.opened()
        await process.stop()
        assert len(list(machine.folder.iterdir())) == 1
        assert not any(consumer.is_started for consumer in process.consumers)

    run(end)


def test_an_error_in_the_block_of_the_tables_leaves_it_as_it_is(run: Run) -> None:
    """The exit status of the process follows from its class."""

    async def block(machine: Machine) -> None:
        process = Process(machine)

        async def start() -> None:
            async with process.tables.running() as tables:
                with suppress(TableLoadingError):
                    tables.open(process.form, "spec")
                await asyncio.sleep(1.0)
                raise ConfigError("no topic")

        with pytest.raises(ConfigError, match="no topic"):
            await start()

    run(block)


def test_a_table_of_a_process_that_has_ended_is_removed_when_nobody_needs_it(run: Run) -> None:
    async def leftover(machine: Machine) -> None:
        machine.put("a", 1)
        former = Process(machine, form=PriceForm("b" * 32))
        await former.start()
        await former.opened()
        process = await started(machine)
        table = await process.opened()
        await former.stop()
        await asyncio.sleep(STORE_KEPT_S - 10)
        assert len(list(machine.folder.iterdir())) == 2
        await asyncio.sleep(80)
        assert len(list(machine.folder.iterdir())) == 1
        assert prices(table, "a") == [1]

    run(leftover)
