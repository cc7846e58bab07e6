"""Versions of different specs are judged on the same rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_training.commands.judged_rows import JudgedRows
from model_training.data.click_log import encode_log, read_log
from model_training.data.manifest import write_manifest
from model_training.data.prepared import Prepared, SplitManifest, read_prepared
from model_training.data.records import write_records
from model_training.errors import DataError
from streamer.features import Encoder, FeatureSpec
from tests.model_training.conftest import SPEC

pytestmark = pytest.mark.tensorflow

OTHER = FeatureSpec.from_mapping(SPEC | {"embedding_dim": 5})


def _prepared(folder: Path, log: Path, spec: FeatureSpec, rows: str) -> Path:
    """Prepared data with a split `test` of ten requests, whose shards have this checksum of their rows."""
    manifest = write_records(encode_log(read_log(log, last=10), Encoder(spec)), folder, spec, shards=2)
    shards = tuple(replace(shard, rows=rows) for shard in manifest.shards)
    split = SplitManifest(replace(manifest, shards=shards), 0, 9)
    write_manifest(folder, Prepared({"source": {"kind": "unknown"}}, 30, {}, 0, {}, 0, 0, {"test": split}))
    return folder


def test_each_spec_has_its_folder(
    tmp_path: Path, log: Path, spec: FeatureSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    own = _prepared(tmp_path / "own", log, spec, "same")
    other = _prepared(tmp_path / "other", log, OTHER, "same")
    judged = JudgedRows(own, [other], "test")
    np.testing.assert_array_equal(judged.examples(spec).labels, judged.examples(OTHER).labels)
    assert capsys.readouterr().out == ""
    assert JudgedRows(own, [other], "test").unused() == [other]
    assert judged.unused() == []
    with pytest.raises(DataError, match="absent"):
        JudgedRows(own, [tmp_path / "absent"], "test")
    manifest = read_prepared(own).splits["test"]
    old = replace(manifest, records=replace(manifest.records, has_identities=False))
    write_manifest(own, replace(read_prepared(own), splits={"test": old}))
    assert judged.examples(spec).identities is None
    assert "an older version wrote these records, without users and requests: run prepare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("own_rows", "message"),
    [
        ("another log", "own: the rows of its split test are not those of .*other"),
        ("", "own: an older version prepared it, without checksums of its rows: run prepare again"),
    ],
)
def test_other_rows_are_rejected(tmp_path: Path, log: Path, spec: FeatureSpec, own_rows: str, message: str) -> None:
    own = _prepared(tmp_path / "own", log, spec, own_rows)
    other = _prepared(tmp_path / "other", log, OTHER, "log")
    judged = JudgedRows(own, [other], "test")
    assert len(judged.examples(spec)) == 30, "alone it is usable"
    with pytest.raises(DataError, match=message):
        judged.examples(OTHER)
