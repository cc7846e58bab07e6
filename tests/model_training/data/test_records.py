"""Records on disk, and batches from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples, rebatched
from model_training.data.identities import UNKNOWN, IdHasher
from model_training.data.input_pipeline import batches
from model_training.data.manifest import MANIFEST, Damage, log_odds, read_manifest, unchanged, without_damaged
from model_training.data.prepared import validation_records
from model_training.data.records import encode_table, serialized, write_records
from model_training.data.training_data import read_examples, split_log, stored
from model_training.errors import ConfigError, DataError
from streamer.features import Encoder, FeatureSpec
from streamer.features.hashing import hash64
from streamer.types import F32, I32

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def examples(log: Path, encoder: Encoder) -> Examples:
    (encoded,) = encode_log(read_log(log, last=100), encoder)
    return encoded


def test_records_equal_the_encoder_s_output(tmp_path: Path, examples: Examples, spec: FeatureSpec) -> None:
    manifest = write_records([examples], tmp_path, spec, shards=1)
    read = [[part.numpy() for part in batch] for batch in batches(tmp_path, manifest, 128)]
    ids, floats, labels = (np.concatenate(parts) for parts in zip(*read, strict=True))
    np.testing.assert_array_equal(ids, examples.ids)
    np.testing.assert_array_equal(floats, examples.floats)
    np.testing.assert_array_equal(labels, examples.labels)
    assert [values.dtype.name for values in (ids, floats, labels)] == ["int32", "float32", "float32"]


def test_a_log_is_encoded_in_blocks_to_the_same_records(tmp_path: Path, log: Path, spec: FeatureSpec) -> None:
    (whole,) = encode_log(read_log(log), Encoder(spec), chunk=10_000)
    in_memory = write_records([whole], tmp_path / "in memory", spec)
    assert list(map(len, rebatched([whole[:5], whole[5:5], whole[5:12], whole[12:20]], 8))) == [8, 8, 4]
    assert list(rebatched([whole[:0]], 8)) == []
    data = split_log(log, tmp_path / "in blocks", spec, holdout=0.0)
    assert data.manifest == in_memory
    assert data.holdout.examples == 0


def test_later_examples_are_scored_in_blocks(tmp_path: Path, log: Path, spec: FeatureSpec) -> None:
    (whole,) = encode_log(read_log(log), Encoder(spec), chunk=10_000)
    manifest = write_records([whole], tmp_path, spec, shards=2)
    sizes = []

    def model(ids: I32, floats: F32) -> F32:
        sizes.append(len(ids))
        return ids[:, 0].astype(np.float32)

    stream = stored(tmp_path, manifest)
    expected = read_examples(tmp_path, manifest)
    for _ in range(2):  # each pass has the same order
        labels, scores, _ = stream.scored({"a": model})
        assert (labels.dtype.name, scores["a"].dtype.name) == ("int8", "float32")
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_array_equal(scores["a"], expected.ids[:, 0])
    assert max(sizes) < len(whole) == stream.examples


def test_records_have_users_requests_and_times_which_training_does_not_parse(
    tmp_path: Path, log: Path, spec: FeatureSpec
) -> None:
    (encoded,) = encode_log(read_log(log, first=100, last=103), Encoder(spec), user_path="user.id")
    known = encoded.identities
    assert known is not None
    users = [logged.request["user"]["id"] for logged in read_log(log, first=100, last=103)]  # type: ignore[index]
    assert known.users.tolist() == [hash64(user) for user in users for _ in range(3)]
    assert known.requests.tolist() == [101] * 3 + [102] * 3 + [103] * 3
    assert known.times.tolist() == [100] * 3 + [101] * 3 + [102] * 3
    manifest = write_records([encoded], tmp_path, spec, shards=2)
    assert manifest.has_identities
    read = read_examples(tmp_path, manifest).identities
    assert read is not None
    pairs = zip(read.users.tolist(), read.times.tolist(), strict=True)
    assert sorted(pairs) == sorted(zip(known.users.tolist(), known.times.tolist(), strict=True))
    (batch,) = batches(tmp_path, manifest, 128)
    assert len(batch) == 3


def test_records_of_an_older_version_have_no_identities(tmp_path: Path, examples: Examples, spec: FeatureSpec) -> None:
    write_records([replace(examples, identities=None)], tmp_path, spec)
    content = orjson.loads((tmp_path / MANIFEST).read_bytes())
    del content["has_identities"]
    (tmp_path / MANIFEST).write_bytes(orjson.dumps(content))
    assert read_examples(tmp_path, read_manifest(tmp_path)).identities is None


def test_ids_are_hashed_as_the_encoder_hashes_them() -> None:
    given = ["7", 7, 7.0, [7], None, "", float("nan"), {}, "u7"]
    assert IdHasher()(given).tolist() == [hash64("7")] * 4 + [UNKNOWN] * 4 + [hash64("u7")]


def test_every_process_writes_the_same_bytes() -> None:
    """The entries of a map are sorted; otherwise their order differs by process."""
    zeros = Examples(np.zeros((200, 3), np.int32), np.zeros((200, 2), np.float32), np.zeros(200, np.int8))
    orders = {tuple(sorted((b"ids", b"floats", b"labels"), key=record.index)) for record in serialized(zeros)}
    assert orders == {(b"floats", b"ids", b"labels")}


def test_the_manifest_counts_and_is_read_back(tmp_path: Path, examples: Examples, spec: FeatureSpec) -> None:
    written = write_records([examples], tmp_path, spec, shards=4, negative_sampling_rate=0.5)
    assert read_manifest(tmp_path) == written
    assert (written.examples, written.positives) == (300, int(examples.labels.sum()))
    assert [shard.examples for shard in written.shards] == [75, 75, 75, 75]
    assert (written.spec_hash, written.negative_sampling_rate) == (spec.hash, 0.5)


def test_records_of_another_spec_are_rejected(tmp_path: Path, examples: Examples, spec: FeatureSpec) -> None:
    manifest = write_records([examples], tmp_path, spec)
    manifest.check(spec)
    with pytest.raises(DataError, match=r"records of spec 'small' .* do not fit"):
        replace(manifest, spec_hash="0" * 16).check(spec)


def test_records_of_a_log_have_no_validation_examples_of_an_earlier_one(
    tmp_path: Path, log: Path, spec: FeatureSpec
) -> None:
    split_log(log, tmp_path, spec, holdout=0.95, validation_share=0.5)
    folder, before = validation_records(tmp_path)
    assert (folder, before.examples) == (tmp_path / "validation", 150)
    split_log(log, tmp_path, spec, holdout=0.9)
    with pytest.raises(DataError, match="early_stopping needs validation examples, and there are none"):
        validation_records(tmp_path)


def test_a_log_with_a_bad_end_leaves_the_records_of_an_earlier_one(
    tmp_path: Path, log: Path, spec: FeatureSpec
) -> None:
    records, bad = tmp_path / "records", tmp_path / "bad.jsonl"
    split_log(log, records, spec, holdout=0.95, validation_share=0.5)
    before = {path: path.read_bytes() for path in records.rglob("*") if path.is_file()}
    lines = log.read_bytes().splitlines(keepends=True)[:20]
    for place in (12, 19):  # among the validation examples, and in the holdout
        bad.write_bytes(b"".join([*lines[:place], b"{}\n", *lines[place + 1 :]]))
        with pytest.raises(DataError, match=rf"bad\.jsonl:{place + 1}: timestamp_ms"):
            split_log(bad, records, spec, holdout=0.2, validation_share=0.5)
    assert {path: path.read_bytes() for path in records.rglob("*") if path.is_file()} == before


def test_records_that_were_replaced_during_a_run_are_noticed(tmp_path: Path, log: Path, spec: FeatureSpec) -> None:
    split_log(log, tmp_path, spec, holdout=0.99)
    with unchanged(tmp_path):
        split_log(log, tmp_path, spec, holdout=0.99)
    with pytest.raises(DataError, match="was replaced during the training"), unchanged(tmp_path):
        split_log(log, tmp_path, spec, holdout=0.98)


def test_a_log_never_overwrites_prepared_data(tmp_path: Path, log: Path, spec: FeatureSpec) -> None:
    (tmp_path / MANIFEST).write_text('{"splits": {}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="holds data that `prepare` made"):
        split_log(log, tmp_path, spec)
    assert (tmp_path / MANIFEST).read_text(encoding="utf-8") == '{"splits": {}}'


def test_an_empty_log_leaves_no_manifest(tmp_path: Path, spec: FeatureSpec) -> None:
    with pytest.raises(DataError, match="the log is empty"):
        write_records([], tmp_path, spec)
    assert not (tmp_path / MANIFEST).exists()
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        read_manifest(tmp_path)


def test_shuffling_is_a_permutation_that_the_seed_decides(
    tmp_path: Path, examples: Examples, spec: FeatureSpec
) -> None:
    marked = replace(examples, ids=np.arange(examples.ids.size, dtype=np.int32).reshape(examples.ids.shape))
    manifest = write_records([marked], tmp_path, spec, shards=3)

    def order(seed: int) -> list[int]:
        data = batches(tmp_path, manifest, 64, shuffle_buffer=300, seed=seed)
        return [int(row) for ids, _, _ in data for row in ids.numpy()[:, 0]]

    assert order(1) == order(1) != order(2)
    assert sorted(order(2)) == marked.ids[:, 0].tolist()


@pytest.mark.parametrize("n", [2, 3])
def test_shares_are_disjoint_and_complete(tmp_path: Path, examples: Examples, spec: FeatureSpec, n: int) -> None:
    marked = replace(examples, ids=np.arange(examples.ids.size, dtype=np.int32).reshape(examples.ids.shape))
    manifest = write_records([marked], tmp_path, spec, shards=3)

    def share(i: int) -> list[int]:
        data = batches(tmp_path, manifest, 32, shuffle_buffer=100, deterministic=False, share=(i, n))
        return [int(row) for ids, _, _ in data for row in ids.numpy()[:, 0]]

    shares = [share(i) for i in range(n)]
    assert [len(rows) for rows in shares] == [300 // n] * n
    assert sorted(row for rows in shares for row in rows) == marked.ids[:, 0].tolist()


def test_each_epoch_is_shuffled_anew_and_batches_cross_its_end(
    tmp_path: Path, examples: Examples, spec: FeatureSpec
) -> None:
    marked = replace(examples, ids=np.arange(examples.ids.size, dtype=np.int32).reshape(examples.ids.shape))
    manifest = write_records([marked], tmp_path, spec, shards=3)
    read = [ids.numpy()[:, 0].tolist() for ids, _, _ in batches(tmp_path, manifest, 128, epochs=2, shuffle_buffer=300)]
    assert [len(batch) for batch in read] == [128, 128, 128, 128, 88]
    rows = [row for batch in read for row in batch]
    assert rows[:300] != rows[300:]
    assert sorted(rows[:300]) == sorted(rows[300:]) == marked.ids[:, 0].tolist()
    # In shard order the first examples of each shard come early; shuffled, they are anywhere.
    assert 100 < np.mean([rows[:300].index(row) for row in marked.ids[:30, 0].tolist()]) < 200


def test_records_of_an_older_format_are_rejected(tmp_path: Path, examples: Examples, spec: FeatureSpec) -> None:
    write_records([examples], tmp_path, spec)
    path = tmp_path / MANIFEST
    content = orjson.loads(path.read_bytes())
    del content["rows_per_record"]
    path.write_bytes(orjson.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json: records of one example each, which an older version wrote"):
        read_manifest(tmp_path)


def test_columns_encode_as_documents_do(spec: FeatureSpec, encoder: Encoder) -> None:
    columns: dict[str, list[object]] = {
        "user": ["u1", "u2"],
        "tags": [["a", "b"], None],
        "hour": [3, 4],
        "ad": ["x", "y"],
        "bid": [1.0, None],
    }
    (part,) = encode_table(columns, [1, 0], encoder)
    ids, floats = encoder.encode_log(
        [
            {"user": {"id": "u1", "tags": ["a", "b"]}, "context": {"hour": 3}},
            {"user": {"id": "u2"}, "context": {"hour": 4}},
        ],
        [{"ad_id": "x", "bid": 1.0}, {"ad_id": "y"}],
        [1, 1],
    )
    np.testing.assert_array_equal(part.ids, ids)
    np.testing.assert_array_equal(part.floats, floats)
    assert part.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        ({"nobody": ["a"]}, [1], "column 'nobody': spec 'small' has no such feature"),
        ({"user": ["a", "b"]}, [1], "column 'user': 2 values for 1 labels"),
        ({"user": ["a"]}, [float("nan")], r"labels\[0\]: expected 0 or 1, got nan"),
    ],
)
def test_bad_columns_are_rejected(
    columns: dict[str, list[object]], labels: list[int], message: str, encoder: Encoder
) -> None:
    with pytest.raises(DataError, match=message):
        list(encode_table(columns, labels, encoder))


def test_damaged_shards_are_named_and_dropped_up_to_a_limit(
    tmp_path: Path, examples: Examples, spec: FeatureSpec
) -> None:
    manifest = write_records([examples], tmp_path, spec, shards=4)
    assert without_damaged(tmp_path, manifest, max_lost_share=0.0) == (manifest, Damage((), 0))
    shard = tmp_path / manifest.shards[1].file
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (tmp_path / manifest.shards[3].file).unlink()
    with pytest.raises(DataError, match=r"150 of 300 examples .* share of 0\.4 .*records-00001.*, records-00003"):
        without_damaged(tmp_path, manifest, max_lost_share=0.4)
    intact, lost = without_damaged(tmp_path, manifest, max_lost_share=0.5)
    assert lost == Damage((manifest.shards[1].file, manifest.shards[3].file), 150)
    assert (intact.examples, len(intact.shards)) == (150, 2)
    assert sum(len(labels) for _, _, labels in batches(tmp_path, intact, 64)) == 150


def test_log_odds_are_finite_without_one_of_the_classes() -> None:
    assert log_odds(3, 1000) == pytest.approx(np.log(3.5 / 997.5))
    assert log_odds(0, 1000) == -log_odds(1000, 1000) == pytest.approx(np.log(0.5 / 1000.5))
    assert log_odds(0, 0) == 0
