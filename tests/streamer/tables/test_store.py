"""Writers and readers of one table."""

import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ConfigError
from streamer.tables import layout
from streamer.tables.index import Places
from streamer.tables.layout import Word
from streamer.tables.mapped_file import MappedFile
from streamer.tables.reader import QUARANTINE_S, Reader
from streamer.tables.store import KEPT_S, MAX_AGE_S, remove_unused, stored_tables
from streamer.types import U64
from tests.streamer.tables.stores import (
    MAX_BYTES,
    TOPIC,
    TOPIC_ID,
    CheckedForm,
    Clock,
    opened,
    put,
    reader_of,
    rows_of,
    store_in,
    versions_in,
    writer_of,
)


def test_a_lookup_returns_the_rows_of_known_ads_and_the_positions(tmp_path: Path) -> None:
    store = store_in(tmp_path / "shm")
    writer = writer_of(store)
    reader = reader_of(store)
    assert writer.apply(["a", "b"], rows_of({"a": 1, "b": 2}), [], [7, 9]) == []
    assert versions_in(reader, ["b", "x", "a", "b"]) == [2, None, 1, 2]
    assert reader.lookup(["a"]).position.topic == TOPIC
    assert reader.lookup([]).position.offsets == (7, 9)
    writer.apply(["a"], rows_of({"a": 3}), ["b", "never"], [8, 9])
    assert reader.lookup([]).position.offsets == (8, 9)
    found = reader.lookup(["a", "b"])
    assert found.position.offsets == (8, 9)
    assert found.known.tolist() == [True, False]
    assert found.rows.dtype.fields is not None
    assert list(found.rows.dtype.fields) == list(CheckedForm().dtype.fields or ())
    assert found.rows.flags.c_contiguous
    assert reader.state.count == 1


def test_an_ad_id_is_any_text(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer, reader = writer_of(store), reader_of(store)
    ids = ["é", "", "a\0b", "x" * 5000, "\ud800"]
    rows = np.zeros(len(ids), CheckedForm().dtype)
    rows["version"] = range(1, 6)
    assert writer.apply(ids, rows, [], [1]) == []
    assert reader.lookup(ids).rows["version"].tolist() == [1, 2, 3, 4, 5]
    assert not reader.lookup(["e", "a", "\ud801"]).known.any()


_IDS = st.integers(0, 40).map("ad{}".format)
_BATCHES = st.lists(
    st.tuples(st.sets(_IDS, max_size=9), st.sets(_IDS, max_size=8), st.booleans()), min_size=1, max_size=20
)


@settings(max_examples=25, deadline=None)
@given(batches=_BATCHES, is_ready=st.booleans())
def test_a_table_behaves_like_a_dict(
    batches: list[tuple[set[str], set[str], bool]], is_ready: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("shm")
    clock = Clock()
    # Few slots and buckets, so that slots are used again and ads leave their own bucket.
    store = store_in(directory, form=CheckedForm(words=1500), clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    form = CheckedForm(words=1500)
    if is_ready:
        writer.mark_ready()
    model: dict[str, int] = {}
    for position, (changed, deleted, goes_on) in enumerate(batches):
        if goes_on:
            writer.close()
            writer = writer_of(store)
            assert writer.state.count == len(model)
        changes = dict.fromkeys(changed, position)
        gone = [ad_id for ad_id in deleted if ad_id not in changes]
        clock.now += QUARANTINE_S
        rejected = writer.apply(list(changes), rows_of(changes, form), gone, [position])
        assert rejected == []
        model.update(changes)
        for ad_id in gone:
            model.pop(ad_id, None)
        ids = [f"ad{number}" for number in range(45)]
        assert versions_in(reader, ids) == [model.get(ad_id) for ad_id in ids]
        assert reader.lookup(ids).position.offsets == (position,)
        assert reader.state.count == len(model)
    writer.close()
    reader.close()


def test_a_table_grows_to_its_size_and_then_rejects_only_new_ads(tmp_path: Path) -> None:
    clock = Clock()
    store = store_in(tmp_path, clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    writer.mark_ready()
    known: dict[str, int] = {}
    rejected: list[int] = []
    while not rejected:
        batch = {f"ad{len(known) + number}": 1 for number in range(200)}
        rejected = put(writer, batch)
        known.update(dict(list(batch.items())[: len(batch) - len(rejected)]))
    assert rejected == list(range(200 - len(rejected), 200))
    assert writer.full_reason == "table is full (ads.max_bytes)"
    assert reader.state.used_bytes <= MAX_BYTES
    assert reader.state.count == len(known) > MAX_BYTES / 400
    changed = dict.fromkeys(list(known)[: writer.max_changes], 2)
    for version in range(2, 6):
        changed = dict.fromkeys(changed, version)
        clock.now += QUARANTINE_S
        assert put(writer, changed) == []
        assert versions_in(reader, list(changed)) == [version] * len(changed)
    assert versions_in(reader, list(known)) == list((known | changed).values())
    clock.now += QUARANTINE_S
    assert put(writer, {"new": 1}, deleted=list(known)[:5]) == [0]
    assert put(writer, {"new": 1}) == []
    assert writer.full_reason == ""


def test_slots_in_quarantine_are_not_used_again(tmp_path: Path) -> None:
    clock = Clock()
    store = store_in(tmp_path, form=CheckedForm(words=1500), clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    writer.mark_ready()
    form = CheckedForm(words=1500)
    while not writer.apply([name := f"ad{writer.state.count}"], rows_of({name: 1}, form), [], [1]):
        pass
    changed = [f"ad{number}" for number in range(writer.max_changes)]
    for version in range(1, 100):
        if writer.apply(changed, rows_of(dict.fromkeys(changed, version), form), [], [version]) is None:
            break
    assert reader.lookup(changed).position.offsets == (version - 1,)
    assert versions_in(reader, changed) == [version - 1] * len(changed)
    clock.now += QUARANTINE_S
    assert writer.apply(changed, rows_of(dict.fromkeys(changed, version), form), [], [version]) == []


def test_absent_ads_are_found_absent_after_many_ads_have_come_and_gone(tmp_path: Path) -> None:
    store = store_in(tmp_path, max_bytes=2**21)
    writer = writer_of(store)
    live: list[str] = []
    for start in range(0, 20_000, 250):
        new = [f"ad{start + number}" for number in range(250)]
        gone, live = live[:-3000], live[-3000:]
        put(writer, dict.fromkeys(new, 1), gone)
        live += new
    entries = writer._table.index._entries  # noqa: SLF001  what makes absent ads slow is not visible outside
    assert (entries != 0).all(axis=1).mean() < 0.05


class PausedReader:
    """Changes a table while a lookup is between its two looks at the epoch."""

    def __init__(self, reader: Reader, *changes: object) -> None:
        self._read = reader._read  # noqa: SLF001
        self.reads = 0
        self._changes = list(changes)
        reader._read = self  # type: ignore[assignment,method-assign]  # noqa: SLF001

    def __call__(self, digests: object) -> object:
        self.reads += 1
        found = self._read(digests)  # type: ignore[arg-type]
        if self._changes:
            self._changes.pop(0)()  # type: ignore[operator]
        return found


def test_a_lookup_during_a_batch_reads_again(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer, reader = writer_of(store), reader_of(store)
    put(writer, {"a": 1, "b": 1}, position=1)
    writer.mark_ready()
    paused = PausedReader(reader, lambda: put(writer, {"a": 2, "b": 2}, position=2))
    assert versions_in(reader, ["a", "b"]) == [2, 2]
    assert paused.reads == 2
    assert reader.lookup(["a"]).position.offsets == (2,)


def test_a_lookup_in_the_middle_of_a_batch_sees_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    writer, reader = writer_of(store), reader_of(store)
    put(writer, {"a": 1}, position=1)
    writer.mark_ready()
    paused = PausedReader(reader)
    index = writer._table.index  # noqa: SLF001
    store_entries = index.store
    seen: list[tuple[list[int | None], tuple[int, ...]]] = []

    def look() -> None:
        seen.append((versions_in(reader, ["a"]), reader.lookup(["a"]).position.offsets))

    def store_between_lookups(places: Places, entries: U64) -> None:
        look()
        store_entries(places, entries)
        look()

    monkeypatch.setattr(index, "store", store_between_lookups)
    put(writer, {"a": 2}, position=2)
    assert seen == [([1], (1,)), ([2], (1,))], "rows can be newer than the positions, never older"
    assert paused.reads == 4 * 3, "it has tried to see the table between two batches"


def test_a_lookup_that_took_longer_than_the_quarantine_reads_again(tmp_path: Path) -> None:
    """Its rows may have been overwritten: the writer uses the slots again."""
    clock = Clock()
    store = store_in(tmp_path, clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    put(writer, {"a": 1}, position=1)
    writer.mark_ready()

    version = 1

    def change() -> None:
        nonlocal version
        version += 1
        put(writer, {"a": version}, position=version)
        clock.now += QUARANTINE_S

    paused = PausedReader(reader, *[change] * 6)
    assert versions_in(reader, ["a"]) == [7]
    assert paused.reads == 7


def test_a_lookup_between_batches_without_a_pause_takes_what_it_has(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer, reader = writer_of(store), reader_of(store)
    put(writer, {"a": 1}, position=1)
    writer.mark_ready()
    version = 1

    def change() -> None:
        nonlocal version
        version += 1
        put(writer, {"a": version}, position=version)

    paused = PausedReader(reader, *[change] * 10)
    found = reader.lookup(["a"])
    assert (paused.reads, found.known.tolist()) == (3, [True])
    assert found.position.offsets[0] <= found.rows["version"][0] < version


def test_a_writer_that_died_in_a_batch_leaves_rows_and_older_positions(tmp_path: Path) -> None:
    clock = Clock()
    store = store_in(tmp_path, clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    put(writer, {"a": 1, "b": 1}, position=5)
    assert reader.lookup(["a"]).known.all()
    writer._table.words[Word.EPOCH] += 1  # noqa: SLF001  as between the two steps of a batch
    assert not reader.lookup(["a"]).known.any(), "while it loads, slots are used again at once"
    writer.mark_ready()
    writer._table.prepare_positions([6])  # noqa: SLF001
    assert versions_in(reader, ["a", "b"]) == [1, 1]
    assert reader.lookup(["a"]).position.offsets == (5,)
    writer.close()
    writer = writer_of(store)
    assert writer.state.positions == (5,)
    clock.now += QUARANTINE_S
    put(writer, {"a": 2}, position=6)
    assert reader.lookup(["a"]).position.offsets == (6,)
    assert versions_in(reader, ["a", "b"]) == [2, 1]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    store, other = store_in(tmp_path), store_in(tmp_path)
    assert store.open_reader() is None
    writer = writer_of(store)
    put(writer, {"a": 1}, position=3)
    assert other.open_writer() is None
    writer.close()
    writer.close()
    writer = writer_of(other)
    assert writer.state.positions == (3,)
    assert store.open_writer() is None


def test_loading_is_visible_to_readers(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer = store.open_writer()
    assert writer is not None
    assert store.open_reader() is None, "no table before its pages exist"
    with pytest.raises(ValueError, match="not recovered"):
        writer.begin_load([0], [1])
    for _ in writer.recover():
        pass
    assert writer.state.positions == ()
    writer.begin_load([100, 0, 0], [300, 0, 200])
    reader = reader_of(store)
    assert (reader.state.is_ready, reader.state.loaded_share, reader.state.positions) == (False, 0.0, (100, 0, 0))
    writer.apply([], rows_of({}), [], [200, 0, 100])
    assert reader.state.loaded_share == 0.5
    writer.apply([], rows_of({}), [], [350, 0, 300, 9])
    assert (reader.state.loaded_share, reader.state.positions) == (1.0, (350, 0, 300, 9))
    states = [reader.state]
    writer.mark_ready()
    states.append(reader.state)
    writer.retire()
    states.append(reader.state)
    assert [(state.is_ready, state.is_retired) for state in states] == [(False, False), (True, False), (True, True)]


def test_an_empty_topic_is_loaded_at_once(tmp_path: Path) -> None:
    writer = opened(store_in(tmp_path))
    assert writer.state.loaded_share == 0.0
    writer.begin_load([5, 0], [5, 0])
    assert writer.state.loaded_share == 1.0


def test_a_load_goes_on_with_the_next_writer(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer = writer_of(store)
    put(writer, {"a": 1}, position=25)
    writer.close()
    writer = writer_of(store)
    assert (writer.state.is_ready, writer.state.loaded_share) == (False, 0.25)
    assert versions_in(reader_of(store), ["a"]) == [1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"slots": ', b'"slots": 1', 1)),
        lambda path: path.write_bytes(path.read_bytes()[:-4096]),
    ],
    ids=["empty", "zeros", "changed", "shorter"],
)
def test_a_damaged_table_is_replaced(damage: object, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer = writer_of(store)
    put(writer, {"a": 1}, position=5)
    writer.mark_ready()
    writer.close()
    (path,) = tmp_path.glob("*/table")
    damage(path)  # type: ignore[operator]
    assert store.open_reader() is None
    writer = opened(store)
    assert (writer.state.positions, writer.state.is_ready) == ((), False)
    assert versions_in(reader_of(store), ["a"]) == [None]


def test_another_format_topic_id_or_form_has_another_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writer_of(store_in(tmp_path))
    put(writer, {"a": 1})
    writer.mark_ready()
    for other in (store_in(tmp_path, topic_id="other"), store_in(tmp_path, form=CheckedForm(20, "1" * 32))):
        assert other.open_reader() is None
        assert versions_in(reader_of(store_in(tmp_path)), ["a"]) == [1]
        assert writer_of(other).state.count == 0
    monkeypatch.setattr(layout, "FORMAT", layout.FORMAT + 1)
    assert store_in(tmp_path).open_reader() is None
    monkeypatch.undo()
    names = [(table.topic_id, table.fingerprint[0], table.state.count) for table in stored_tables(tmp_path)]
    assert sorted(names) == [(TOPIC_ID, "0", 1), (TOPIC_ID, "1", 0), ("other", "0", 0)]


def test_readers_follow_a_table_of_another_size_when_it_is_ready(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer = writer_of(store)
    put(writer, {"a": 1}, position=50)
    writer.mark_ready()
    reader = reader_of(store)
    assert not reader.refresh()
    writer.close()
    writer = writer_of(store_in(tmp_path, max_bytes=2**21))
    assert writer.state.count == 0
    put(writer, {"a": 2}, position=7)
    assert not reader.refresh(), "the new table is not loaded"
    assert versions_in(reader, ["a"]) == [1]
    writer.mark_ready()
    assert reader.refresh()
    assert not reader.refresh()
    assert versions_in(reader, ["a"]) == [2]
    assert reader.lookup(["a"]).position.offsets == (7,)


def test_a_table_that_nobody_wrote_for_an_hour_is_read_again(tmp_path: Path) -> None:
    wall = Clock(1_700_000_000.0)
    store = store_in(tmp_path, wall=wall)
    writer = writer_of(store)
    put(writer, {"a": 1}, position=50)
    writer.mark_ready()
    wall.now += MAX_AGE_S + 1
    reader = reader_of(store)
    assert versions_in(reader, ["a"]) == [1], "its writer is alive"
    writer.close()
    assert store.open_reader() is None
    writer = writer_of(store)
    assert (writer.state.is_ready, writer.state.count) == (False, 0)
    assert not reader.refresh()
    assert versions_in(reader, ["a"]) == [1], "the former rows are better than none"
    writer.mark_ready()
    assert reader.refresh()
    assert versions_in(reader, ["a"]) == [None]
    wall.now += MAX_AGE_S - 1
    writer.close()
    assert writer_of(store).state.positions == (0,)


def test_a_retired_table_is_replaced_by_its_next_writer_and_read_until_then(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer = writer_of(store)
    put(writer, {"a": 1})
    writer.mark_ready()
    reader = reader_of(store)
    writer.retire()
    writer.close()
    writer = writer_of(store)
    assert (writer.state.is_ready, writer.state.is_retired, writer.state.count) == (False, False, 0)
    assert not reader.refresh()
    assert versions_in(reader, ["a"]) == [1]
    writer.mark_ready()
    assert reader.refresh()


def test_a_load_of_nothing_is_complete(tmp_path: Path) -> None:
    writer = opened(store_in(tmp_path))
    assert writer.state.loaded_share == 0.0
    writer.begin_load([3, 0], [3, 0])
    assert writer.state.loaded_share == 1.0


def test_tables_that_nobody_uses_are_removed(tmp_path: Path) -> None:
    wall = Clock(1_700_000_000.0)
    directory = tmp_path / "shm"
    used, unused = store_in(directory, wall=wall), store_in(directory, topic_id="former", wall=wall)
    writer_of(unused).close()
    writer = writer_of(used)
    writer.close()
    reader = reader_of(used)
    (directory / "notes").mkdir()
    (directory / "notes" / "users").touch()
    (directory / "notes" / "mine").touch()
    wall.now += KEPT_S - 1
    remove_unused(directory, wall)
    assert len(list(directory.glob("*/table"))) == 2
    wall.now += 2
    (directory / "notes" / "users").touch()
    writer = writer_of(used)
    assert [table.topic_id for table in stored_tables(directory)] == [TOPIC_ID]
    assert (directory / "notes" / "mine").exists()
    writer.close()
    used.discard()
    assert stored_tables(directory), "a reader uses it"
    reader.close()
    reader.close()
    used.discard()
    assert stored_tables(directory) == []
    assert [path.name for path in directory.iterdir()] == ["notes"]
    used.discard()
    remove_unused(tmp_path / "none", wall)
    assert stored_tables(tmp_path / "none") == []


def test_only_this_user_can_read_the_files(tmp_path: Path) -> None:
    directory = tmp_path / "shm"
    writer_of(store_in(directory))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    writer_of(store).close()
    (path,) = tmp_path.iterdir()
    path.chmod(0o770)
    for use in (store.open_writer, store.open_reader):
        with pytest.raises(ConfigError, match=r"ads\.directory: .* is no folder of this user only; remove it"):
            use()
    path.chmod(0o700)
    writer_of(store)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"ads\.directory: .*/file/x: Not a directory; set a directory"):
        store_in(tmp_path / "file" / "x").open_writer()


def test_a_table_without_space_for_rows_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ads\.max_bytes: 150000 bytes are too few for rows of 168 bytes; raise it"):
        store_in(tmp_path, max_bytes=150_000)


class FullMemory:
    """A directory in memory that has space for `mega` more steps, each of a megabyte or less."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mega: int) -> None:
        self.mega = mega
        self._allocate = MappedFile.allocate
        monkeypatch.setattr(MappedFile, "allocate", lambda *args: self.allocate(*args))  # noqa: PLW0108  a method

    def allocate(self, table: MappedFile, start: int, end: int) -> None:
        if self.mega == 0:
            raise OSError(28, "No space left on device")
        self.mega -= 1
        self._allocate(table, start, end)


@pytest.mark.parametrize("steps", [3, 6], ids=["for the index", "for the slots"])
def test_a_full_directory_rejects_only_new_ads(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = FullMemory(monkeypatch, steps)
    clock = Clock()
    store = store_in(tmp_path, max_bytes=2**24, clock=clock)
    writer, reader = writer_of(store), reader_of(store)
    writer.mark_ready()
    known: list[str] = []
    while not put(writer, {f"ad{len(known) + number}": 1 for number in range(500)}):
        known += [f"ad{len(known) + number}" for number in range(500)]
    assert writer.full_reason == f"No space left on device in {tmp_path} (ads.directory)"
    for version in range(2, 9):
        clock.now += QUARANTINE_S
        assert put(writer, dict.fromkeys(known[:500], version)) == []
    assert versions_in(reader, known) == [8] * 500 + [1] * (len(known) - 500)
    memory.mega, clock.now = 2, clock.now + 10
    assert put(writer, {f"new{number}": 1 for number in range(500)}) == []


def test_a_directory_without_space_for_an_empty_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FullMemory(monkeypatch, 0)
    writer = store_in(tmp_path).open_writer()
    assert writer is not None
    with pytest.raises(ConfigError, match=r"ads\.directory: .*: No space left on device for an empty table; give"):
        list(writer.recover())
    writer.close()
    assert not list(tmp_path.glob("*/table*"))


@pytest.mark.parametrize(
    ("ids", "deleted", "positions", "message"),
    [
        (["a", "a"], [], [1], "occurs twice"),
        (["a"], ["a"], [1], "occurs twice"),
        ([f"ad{number}" for number in range(2000)], [], [1], "2000 changes"),
        (["a"], [], [1] * 5000, "5000 partitions"),
    ],
)
def test_a_batch_that_cannot_be_applied_changes_nothing(
    ids: list[str], deleted: list[str], positions: list[int], message: str, tmp_path: Path
) -> None:
    writer = writer_of(store_in(tmp_path))
    with pytest.raises(ValueError, match=message):
        writer.apply(ids, np.zeros(len(ids), CheckedForm().dtype), deleted, positions)
    with pytest.raises(ValueError, match="the form has"):
        writer.apply(["a"], np.zeros(1, np.dtype([("x", "<u8")])), [], [1])
    with pytest.raises(ValueError, match="1 ads have 2 rows"):
        writer.apply(["a"], np.zeros(2, CheckedForm().dtype), [], [1])
    assert writer.state.count == 0


def test_a_table_is_mapped_and_unmapped_a_megabyte_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path, max_bytes=2**24)
    writer = writer_of(store)
    put(writer, {f"ad{n}": n for n in range(1000)})
    writer.mark_ready()
    reader, other = reader_of(store), reader_of(store)
    steps = writer.state.used_bytes // 2**20 + 2  # header and index are less than a megabyte each
    assert len(list(reader.warm())) == steps > 1
    assert len(list(writer.closing())) == steps
    assert list(writer.closing()) == []
    writer = writer_of(store_in(tmp_path, max_bytes=2**23))
    put(writer, {"a": 2})
    writer.mark_ready()
    assert versions_in(reader, ["ad7"]) == [7]
    assert reader.refresh()
    closed: list[bool] = []
    close = os.close

    def closes(fd: int) -> None:
        if fd in files:
            closed.append(threading.current_thread() is threading.main_thread())
        close(fd)

    monkeypatch.setattr(os, "close", closes)
    files = fds_of_removed(tmp_path)
    new_steps = writer.state.used_bytes // 2**20 + 2
    assert len(list(reader.warm())) == new_steps + steps, "maps the new one, and unmaps the former one"
    assert versions_in(reader, ["a"]) == [2]
    assert versions_in(other, ["ad7"]) == [7], "another process still reads the former one"
    assert len(list(other.closing())) == steps
    for thread in threading.enumerate():
        if thread.name == "table":
            thread.join()
    assert closed == [False, False], "the last one to close a removed file frees its memory, apart from this thread"


def test_a_folder_is_removed_before_the_memory_of_its_table_is_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path)
    writer_of(store).close()
    rmdir = os.rmdir
    open_at: list[int] = []

    def removed(path: Path) -> None:
        open_at.append(len(fds_of_removed(tmp_path)))
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", removed)
    store.discard()
    assert open_at == [4], "a rmdir waits for files that are being closed"
    assert list(tmp_path.iterdir()) == []


def fds_of_removed(directory: Path) -> set[int]:
    """The file descriptors of this process whose files in a directory are removed."""
    links = {int(fd.name): str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    return {fd for fd, name in links.items() if name.startswith(str(directory)) and name.endswith("(deleted)")}
