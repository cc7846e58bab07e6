"""A log prepared by Spark: encoded as in the scorer, split, sampled, every row counted."""

import os
import shutil
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import psutil
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from model_training.commands import app
from model_training.config.gate import GateConfig
from model_training.config.preparation import PrepareConfig, TableSource
from model_training.config.training import load_spec
from model_training.data.collisions import COLLISIONS, read_collisions
from model_training.data.coverage import COVERAGE, read_coverage
from model_training.data.examples import Examples
from model_training.data.manifest import MANIFEST, sha256_of
from model_training.data.prepared import Prepared, Split, read_prepared
from model_training.data.training_data import open_prepared, prepared_split, read_examples
from model_training.errors import ConfigError, DataError
from model_training.export.saved_model import export
from model_training.export.servable import Servable
from model_training.export.versions import versions_in
from model_training.models.wide_deep import WideDeep
from model_training.preparation import session
from model_training.preparation.again import encode_again
from model_training.preparation.coverage import counts_of
from model_training.preparation.prepare import check_dropped, prepare, remove_abandoned
from model_training.preparation.rows import KEY, LABEL, REASON
from model_training.preparation.statistics import STATISTICS, fitted, robust
from model_training.preparation.table import expressions_of, read_table
from streamer.features import GROUPS, Bucketised, Cross, Encoder, FeatureSpec, Layout, Numeric
from streamer.features.consent import ConsentCheck
from streamer.features.coverage import present, read_features
from streamer.features.hashing import MISSING, PADDING, hash64
from streamer.features.paths import getter
from streamer.types import BidRequest
from tests.model_training.disk import files_end_at
from tests.model_training.preparation.conftest import (
    BAD_LINES,
    DENIED,
    HOUR_MS,
    ROWS,
    SPARK_LEAVES_SOCKETS,
    TABLE_SOURCE,
    LogRow,
    log_row,
    write_config,
    write_log,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.tensorflow, SPARK_LEAVES_SOCKETS]

RATE = 0.25


@dataclass(frozen=True, slots=True)
class Run:
    config: PrepareConfig
    folder: Path
    prepared: Prepared

    def examples(self, *splits: Split) -> list[Examples]:
        return [read_examples(self.folder, self.prepared.splits[split].records) for split in splits]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, spark: "SparkSession", numbers_spec: FeatureSpec) -> Run:
    folder = tmp_path_factory.mktemp("prepare")
    write_log(folder / "log.jsonl")
    source = TABLE_SOURCE | {"paths": [str(folder / "log.jsonl")], "weight": "1 + paid % 3 / 2"}
    config = PrepareConfig.from_yaml(write_config(folder, source, negative_sampling_rate=RATE, shards=2, quantiles=4))
    output = folder / "out"
    prepare(spark, config, numbers_spec, output)
    return Run(config, output, read_prepared(output))


def as_served(row: LogRow, encoder: Encoder) -> tuple[bytes, bytes, int]:
    """The row that the scorer encodes from its request."""
    request = BidRequest("r", row.request, 1, rows=[orjson.dumps(row.candidate)])
    ids, floats = encoder.flat_rows(encoder.encode(request))
    return ids.tobytes(), floats.tobytes(), row.clicked


def columns_of(row: LogRow, spec: FeatureSpec) -> dict[str, list[object]]:
    """The row's values by feature; users who deny consent have none."""
    scalar = [feature for feature in spec.features if not isinstance(feature, Cross)]
    denied = ConsentCheck(spec.denial_rules).denies(row.request)
    columns: dict[str, list[object]] = {}
    for feature in scalar:
        value = getter(feature.path)(row.candidate if feature.side == "candidate" else row.request)
        columns[feature.name] = [None if denied and feature.side == "user" else value]
    return columns


def rows_of(examples: Examples) -> Counter[tuple[bytes, bytes, int]]:
    return Counter(
        (ids.tobytes(), floats.tobytes(), int(label))
        for ids, floats, label in zip(examples.ids, examples.floats, examples.labels, strict=True)
    )


def test_rows_are_encoded_as_the_scorer_encodes_them(run: Run, numbers_spec: FeatureSpec) -> None:
    encoder = Encoder(numbers_spec)
    for examples, first, last in zip(run.examples("validation", "test"), (320, 360), (360, ROWS), strict=True):
        assert rows_of(examples) == Counter(as_served(log_row(i), encoder) for i in range(first, last))


def test_users_and_requests_are_exact_and_times_and_weights_are_those_of_the_log(run: Run) -> None:
    (examples,) = run.examples("test")
    known = examples.identities
    assert known is not None
    assert examples.weights is not None
    assert sorted(examples.weights.tolist()) == sorted(1 + i % 3 / 2 for i in range(360, ROWS))
    expected = []
    for i in range(360, ROWS):
        user = i % 40 if i % 5 and i % 40 not in DENIED else None
        ids = (f"z{i % 9}{i // 8 * HOUR_MS}", user)
        expected.append((*(0 if x is None else hash64(str(x)) for x in ids), i // 8 * HOUR_MS))
    found = zip(known.requests.tolist(), known.users.tolist(), known.times.tolist(), strict=True)
    assert sorted(found) == sorted(expected)
    assert all(len(shard.rows) == 64 for shard in run.prepared.splits["test"].records.shards)


def test_coverage_counts_all_usable_rows(run: Run, numbers_spec: FeatureSpec) -> None:
    by_row = [columns_of(log_row(i), numbers_spec) for i in range(ROWS)]
    found = read_coverage(run.folder)
    features = read_features(numbers_spec)
    assert set(found) == {feature.name for feature in features}
    for feature in features:
        column = [row[feature.name][0] for row in by_row]
        each = found[feature.name]
        assert (each.seen, each.unit, each.present) == (ROWS, "rows", int(present(feature, column).sum()))
    assert 0 < found["sex"].present < found["zone"].present == ROWS


def test_the_counts_of_batches_add_up(numbers_spec: FeatureSpec) -> None:
    by_row = [columns_of(log_row(i), numbers_spec) for i in range(20)]
    values = {name: [row[name][0] for row in by_row] for name in by_row[0]}
    numbers = {name: np.array(values[name], np.float64) for name in ("age", "bid")}

    def counts(part: slice) -> list[int]:
        own = {name: column[part] for name, column in values.items()}
        finite = {name: column[part] for name, column in numbers.items()}
        first, *rest = counts_of(numbers_spec, own, finite, len(own["bid"])).to_pylist()
        assert not any(rest)
        return list(first)

    parts = [counts(slice(0, 7)), counts(slice(7, 8)), counts(slice(8, 20))]
    assert [sum(each) for each in zip(*parts, strict=True)] == counts(slice(None))
    assert counts_of(numbers_spec, {name: [] for name in values}, {}, 0).to_pylist() == []


def test_training_keeps_all_clicks_and_a_share_of_the_rest(run: Run, numbers_spec: FeatureSpec) -> None:
    encoder = Encoder(numbers_spec)
    (training,) = run.examples("train")
    possible = Counter(as_served(log_row(i), encoder) for i in range(320))
    kept = rows_of(training)
    assert kept <= possible
    assert training.labels.sum() == 32
    # 288 non-clicks at a rate of 0.25: six standard deviations are 44.
    assert abs(len(training.labels) - 32 - 72) < 44
    records = run.prepared.splits["train"].records
    assert (records.negative_sampling_rate, records.examples) == (RATE, len(training.labels))
    assert run.prepared.splits["validation"].records.negative_sampling_rate == 1.0


def test_splits_are_separated_by_time(run: Run) -> None:
    train, validation, test = (run.prepared.splits[name] for name in ("train", "validation", "test"))
    assert (train.first_ms, validation.first_ms, test.first_ms) == (0, 40 * HOUR_MS, 45 * HOUR_MS)
    assert train.last_ms < validation.first_ms <= validation.last_ms < test.first_ms
    assert (run.prepared.validation_from_ms, run.prepared.test_from_ms) == (39 * HOUR_MS + 1, 44 * HOUR_MS + 1)


def test_the_values_that_share_a_bucket_are_counted(run: Run, numbers_spec: FeatureSpec) -> None:
    encoder, seen = Encoder(numbers_spec), dict[str, Counter[tuple[int, int]]]()
    for row in map(log_row, range(ROWS)):
        (ids,), _ = encoder.encode_log([row.request], [row.candidate], [1])
        hashes, start = encoder.value_hashes(columns_of(row, numbers_spec), 1), 0
        for group in GROUPS:
            for at in encoder.layout.ids[group]:
                values = zip(hashes.get(at.feature.name, [[]])[0], ids[start + at.start :].tolist(), strict=False)
                present = ((int(value), row_id) for value, row_id in values if value not in (MISSING, PADDING))
                seen.setdefault(at.feature.name, Counter()).update(present)
            start += encoder.layout.id_width(group)
    found = read_collisions(run.folder)
    assert set(found) == {"user", "tags", "zone", "ad", "zone_x_ad", "tags_x_ad"}
    assert found["zone_x_ad"].colliding_values > 0
    for name, each in found.items():
        in_bucket: dict[int, list[int]] = {}
        for (_, bucket), rows in seen[name].items():
            in_bucket.setdefault(bucket, []).append(rows)
        shared = [rows for rows in in_bucket.values() if len(rows) > 1]
        assert (each.values, each.rows) == (len(seen[name]), seen[name].total())
        assert (each.colliding_values, each.colliding_rows) == (sum(map(len, shared)), sum(map(sum, shared)))
        assert each.outnumbered_rows == sum(sum(rows) - max(rows) for rows in shared)
    result = CliRunner().invoke(app, ["collisions", str(run.folder), "--json"])
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.output)["ad"]["row_share"] == found["ad"].row_share
    assert "outnumbered" in CliRunner().invoke(app, ["collisions", str(run.folder)]).output
    result = CliRunner().invoke(app, ["collisions", str(run.folder.parent)])
    assert (result.exit_code, len(result.output.strip().splitlines())) == (2, 1)


def test_every_row_is_accounted_for(run: Run) -> None:
    prepared = run.prepared
    assert prepared.dropped == dict.fromkeys(BAD_LINES, 1)
    assert prepared.rows == ROWS + len(BAD_LINES)
    held = sum(split.records.examples for split in prepared.splits.values())
    assert prepared.rows == held + prepared.sampled_out + len(BAD_LINES)


def test_shards_match_the_manifest(run: Run) -> None:
    named = {MANIFEST, STATISTICS, COLLISIONS, COVERAGE}
    for split in run.prepared.splits.values():
        for shard in split.records.shards:
            assert sha256_of(run.folder / shard.file) == shard.sha256
            named.add(shard.file)
    assert {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()} == named


def test_statistics_are_of_the_training_rows_and_fit_a_spec(run: Run, numbers_spec: FeatureSpec) -> None:
    statistics = orjson.loads((run.folder / STATISTICS).read_bytes())
    bids = [i % 13 / 4 for i in range(320) if i % 11]
    ages = [i % 60 for i in range(320) if i % 7 and i % 40 not in DENIED]
    assert statistics["bid"] == pytest.approx(
        {"present": len(bids), "missing": 320 - len(bids), "not_finite": 0, **robust(np.sort(np.log1p(bids)))}
    )
    counts = {name: statistics["age"][name] for name in ("present", "missing", "not_finite")}
    assert counts == {"present": len(ages), "missing": 320 - len(ages), "not_finite": 0}
    for boundary, share in zip(statistics["age"]["boundaries"], (0.25, 0.5, 0.75), strict=True):
        assert np.mean(np.array(ages) <= boundary) == pytest.approx(share, abs=0.02)
    better = fitted(numbers_spec, statistics)
    by_name = {feature.name: feature for feature in better.features}
    age, bid = by_name["age"], by_name["bid"]
    assert isinstance(age, Bucketised)
    assert isinstance(bid, Numeric)
    assert list(age.boundaries) == statistics["age"]["boundaries"]
    assert (bid.mean, bid.std, bid.log) == (statistics["bid"]["mean"], statistics["bid"]["std"], True)
    assert better.hash != numbers_spec.hash


@pytest.mark.slow
def test_the_same_log_gives_the_same_bytes_and_replaces_only_on_request(
    run: Run, spark: "SparkSession", numbers_spec: FeatureSpec
) -> None:
    with pytest.raises(DataError, match="already exists and is not empty; --overwrite"):
        prepare(spark, run.config, numbers_spec, run.folder)
    again = prepare(spark, run.config, numbers_spec, run.folder, overwrite=True)
    assert again.splits == run.prepared.splits
    assert [path.name for path in run.folder.parent.iterdir() if path.name.startswith(".")] == []


def test_an_exported_model_is_corrected_for_sampling(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.yaml"
    spec = run.folder.parent / "spec.yaml"
    model.write_text(f"spec: {spec}\nmodel: logistic_regression\nbatch_size: 16\nepochs: 20\n", encoding="utf-8")
    arguments = ["--config", str(model), "--export-to", str(tmp_path / "ctr"), "--judge-by", "test"]
    result = CliRunner().invoke(app, ["train", "--prepared", str(run.folder), *arguments])
    assert result.exit_code == 0, result.output
    (later,) = run.examples("validation")
    serve = tf.saved_model.load(str(tmp_path / "ctr" / "1")).signatures["serving_default"]
    ctr = serve(ids=later.ids, floats=later.floats)["ctr"].numpy()
    # One row in ten is a click; of the kept rows it is one in three.
    assert 0.05 < ctr.mean() < 0.2
    assert "40 " in result.output  # evaluation rows


def refit_spec(run: Run, spec: FeatureSpec) -> FeatureSpec:
    """The spec with the statistics of the log, as a refit before a new model."""
    return fitted(spec, orjson.loads((run.folder / STATISTICS).read_bytes()))


def test_a_split_is_encoded_again_with_another_spec(
    run: Run, spark: "SparkSession", tmp_path: Path, numbers_spec: FeatureSpec
) -> None:
    refit = refit_spec(run, numbers_spec)
    encode_again(spark, run.prepared, "test", refit, tmp_path)
    found, before = read_prepared(tmp_path).split("test"), run.prepared.split("test")
    assert (found.spec_hash, found.examples) == (refit.hash, before.examples)
    assert [shard.rows for shard in found.shards] == [shard.rows for shard in before.shards]
    encoder = Encoder(refit)
    assert rows_of(read_examples(tmp_path, found)) == Counter(as_served(log_row(i), encoder) for i in range(360, ROWS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # resamples of four clicks
def test_versions_of_different_specs_are_judged_on_the_same_rows(
    run: Run, spark: "SparkSession", tmp_path: Path, numbers_spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "spark_session", lambda _: nullcontext(spark))
    refit = refit_spec(run, numbers_spec)
    base, report, gate = tmp_path / "ctr", tmp_path / "report.json", tmp_path / "gate.yaml"
    gate.write_text("".join(f"{name}: null\n" for name in GateConfig.model_fields if name.startswith("m")), "utf-8")
    served = export(WideDeep(Layout(refit), [4], seed=2), refit, base, 1)
    candidate = export(WideDeep(Layout(numbers_spec), [4]), numbers_spec, tmp_path / "new", 1)
    prepare(spark, run.config, refit, tmp_path / "refit")
    rows = prepared_split(tmp_path / "refit", "test", refit)
    auc = roc_auc_score(rows.labels, Servable.load(served).scores(rows.ids, rows.floats))

    def published(*more: object) -> Result:
        options = ("--to", base, "--prepared", run.folder, "--gate", gate, "--report", report, *more)
        return CliRunner().invoke(app, list(map(str, ("publish", candidate, *options))))

    log = run.folder.parent / "log.jsonl"
    before = log.read_bytes()
    try:
        # Rows after the split do not change it; another label in it does.
        later = {"id": "later", "ts": 60 * HOUR_MS, "clicked": 1, "uid": 1}
        log.write_bytes(before + orjson.dumps(later) + b"\n")
        by_itself = published()
        figures = orjson.loads(report.read_bytes())["evaluation"]
        shutil.rmtree(base / "2")
        log.write_bytes(before.replace(b'"clicked":1,"paid":390', b'"clicked":0,"paid":390'))
        changed = published()
    finally:
        log.write_bytes(before)
    assert by_itself.exit_code == 0, by_itself.output
    assert (figures["candidate"]["spec_hash"], figures["served"]["spec_hash"]) == (numbers_spec.hash, refit.hash)
    assert figures["served"]["auc"] == pytest.approx(auc)
    assert changed.exit_code == 2, changed.output
    assert "are not those of its log, which has changed" in " ".join(changed.output.split())
    assert versions_in(base) == [1]
    given = published("--also-prepared", tmp_path / "refit")
    assert given.exit_code == 0, given.output
    assert "again" not in given.output
    assert orjson.loads(report.read_bytes())["evaluation"]["served"]["auc"] == pytest.approx(auc)


def test_damaged_prepared_data_is_rejected_before_training(run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    (copy / run.prepared.splits["train"].records.shards[0].file).unlink()
    with pytest.raises(DataError, match=r"damaged or missing shards, .*: train/records-00000-of-00002\.tfrecord\.gz"):
        open_prepared(copy, "validation")


def test_a_full_disk_is_named_and_leaves_nothing(
    run: Run, spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    # Spark's worker processes, which exist since the previous run, write the shards.
    running = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    workers = [p.pid for p in running if "pyspark.daemon" in p.cmdline()]
    assert workers
    with files_end_at(200, workers), pytest.raises(DataError, match=r"preparation: .*File too large") as caught:
        prepare(spark, run.config, numbers_spec, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "clicks"}, r"source\.label: 'clicks': .*clicks"),
        ({"time": "ts"}, r"source\.time: 'ts' is of type bigint; cast it to one of timestamp"),
        ({"after_event": ["payed"]}, r"source\.after_event: there is no column 'payed'"),
        ({"candidate": {"ad_id": "ad"}}, r"source\.candidate\.price\.bid: no expression for feature 'bid'"),
        (
            {"candidate": {"ad_id": "ad", "price.bid": "paid / 2"}},
            r"price\.bid: 'paid / 2' uses 'paid', which is known only",
        ),
        (
            {"candidate": {"ad_id": "clicked", "price.bid": "bid"}},
            r"ad_id: 'clicked' uses 'clicked', which is known only",
        ),
        ({"candidate": {"ad_id": "ad", "price.bid": "bid", "x": "ad"}}, r"source\.candidate\.x: no feature of spec"),
        ({"candidate": {"ad_id": "profile", "price.bid": "bid"}}, r"ad_id: 'profile' is of type struct<.*cast it"),
    ],
)
def test_configs_that_do_not_fit_the_log_are_rejected(
    run: Run, spark: "SparkSession", tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    source = TABLE_SOURCE | {"paths": [str(run.folder.parent / "log.jsonl")]} | changes
    config = PrepareConfig.from_yaml(write_config(tmp_path, source))
    with pytest.raises(ConfigError, match=message):
        prepare(spark, config, load_spec(config.spec), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_dropped_rows_than_allowed_are_listed_by_reason() -> None:
    dropped, no_faults = {"no label": 6, "the window was open": 50}, frozenset({"the window was open"})
    check_dropped(dropped, 100, no_faults, 0.06)
    with pytest.raises(DataError) as caught:
        check_dropped(dropped, 100, no_faults, 0.05)
    assert str(caught.value) == (
        "6 of 100 rows cannot be used, more than max_dropped_share = 0.05 allows:"
        " 6 × no label; 50 × the window was open"
    )
    with pytest.raises(DataError, match="no row of the log can be used: 6 × no label; 50 × the window was open"):
        check_dropped(dropped, 56, no_faults, 1.0)
    with pytest.raises(DataError, match="no row of the log can be used: there is none"):
        check_dropped({}, 0, no_faults, 1.0)


@pytest.mark.slow
def test_a_log_with_too_many_unusable_rows_leaves_nothing(
    run: Run, spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    config = run.config.model_copy(update={"max_dropped_share": 0.01})
    with pytest.raises(DataError, match=r"^5 of 405 rows cannot be used, .*1 × no key; 1 × no label; "):
        prepare(spark, config, numbers_spec, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_requested_test_split_has_rows(run: Run, spark: "SparkSession", tmp_path: Path) -> None:
    source = TABLE_SOURCE | {"paths": [str(run.folder.parent / "log.jsonl")]}
    split = {"validation_from": "1970-01-02T00:00:00Z", "test_from": "1971-01-01T00:00:00Z"}
    config = PrepareConfig.from_yaml(write_config(tmp_path, source, split=split))
    with pytest.raises(DataError, match="split 'test' has no rows: use other shares or times"):
        prepare(spark, config, load_spec(config.spec), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({"train": 0.9, "validation": 0, "test": 0.1}, {"train": 360, "test": 40}),
        ({"test_from": datetime.fromtimestamp(45 * 3600, UTC)}, {"train": 360, "test": 40}),
        ({"train": 1, "validation": 0, "test": 0}, {"train": 400}),
    ],
)
def test_a_split_that_is_not_wanted_leaves_its_rows_to_training(
    run: Run, spark: "SparkSession", tmp_path: Path, split: dict[str, object], expected: dict[str, int]
) -> None:
    source = TABLE_SOURCE | {"paths": [str(run.folder.parent / "log.jsonl")]}
    config = PrepareConfig.from_yaml(write_config(tmp_path, source, split=split, shards=1))
    found = prepare(spark, config, load_spec(config.spec), tmp_path / "out")
    assert {name: part.records.examples for name, part in found.splits.items()} == expected
    assert found.validation_from_ms is None


def test_what_a_killed_preparation_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    left = [tmp_path / f".out.{name}" for name in ("1.partial", "2.old", "3.partial", "notes")]
    for folder in left:
        folder.mkdir()
    for folder in (left[0], left[1], left[3]):
        os.utime(folder, (0, 0))
    remove_abandoned(tmp_path / "out")
    assert [folder.exists() for folder in left] == [False, False, True, True]


def test_another_spec_may_leave_expressions_unread(numbers_spec: FeatureSpec) -> None:
    candidate = {"ad_id": "ad", "price.bid": "bid", "x": "ad"}
    source = TableSource.model_validate(TABLE_SOURCE | {"paths": ["log"], "candidate": candidate})
    assert set(expressions_of(numbers_spec, source, allow_unread=True)) == {
        feature.name for feature in numbers_spec.features if feature.kind != "cross"
    } | {"consent:user.id"}
    with pytest.raises(ConfigError, match="x: no feature of spec"):
        expressions_of(numbers_spec, source)


def test_labels_of_a_table_of_text_are_numbers_or_words(
    spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    labels = {"1": 1, "0": 0, "1.0": 1, "true": 1, "False": 0, "nan": None, "2": None, "maybe": None}
    (tmp_path / "log.csv").write_text("id,ts,clicked\n" + "".join(f"{x},0,{x}\n" for x in labels), encoding="utf-8")
    request = dict.fromkeys(("user.id", "user.sex", "user.tags", "user.age", "context.zone"), "null")
    unknown = {
        "user_id": "null",
        "request_id": "id",
        "request": request,
        "candidate": {"ad_id": "id", "price.bid": "null"},
    }
    source = TABLE_SOURCE | unknown | {"format": "csv", "paths": [str(tmp_path / "log.csv")], "after_event": []}
    source["time"] = "timestamp_millis(cast(ts as bigint))"
    config = PrepareConfig.from_yaml(write_config(tmp_path, source))
    assert config.source.kind == "table"
    found = read_table(spark, config.source, numbers_spec).frame.collect()
    reasons = {key: None if label is not None else "label is neither 0 nor 1" for key, label in labels.items()}
    assert {row[KEY]: row[REASON] for row in found} == reasons
    assert {row[KEY]: row[LABEL] for row in found if row[REASON] is None} == {
        key: label for key, label in labels.items() if label is not None
    }


def test_a_log_without_usable_rows_or_without_files_leaves_nothing(
    spark: "SparkSession", numbers_spec: FeatureSpec, tmp_path: Path
) -> None:
    source = TABLE_SOURCE | {"paths": [str(tmp_path / "nothing*.jsonl")]}
    config = PrepareConfig.from_yaml(write_config(tmp_path, source))
    with pytest.raises(DataError, match=r"nothing\*\.jsonl: .*PATH_NOT_FOUND"):
        prepare(spark, config, numbers_spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()
