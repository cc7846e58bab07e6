"""A feature by a transform of another package has the encoding of the transform's results."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from model_training.preparation.table import ColumnReader
from model_training.preparation.topics import RequestReader
from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec
from streamer.schemas.request import request_schema
from streamer.testing.ad_table import FakeAds
from streamer.types import BidRequest, EncodedRequest
from tests.streamer.extension_package import installed

CODE = """
class Length:
    version = 2
    def __call__(self, value):
        return len(value)
class Parts:
    version = 1
    def __call__(self, value):
        return [value] if value == "set" else {1} if value == "a set" else value.split("/")
length, parts = Length(), Parts()
"""


def feature(name: str, side: str, kind: str, by: str | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "path": name, "side": side, "kind": kind, "by": by, "deep": True, **more}


def spec_of(*, by: bool) -> FeatureSpec:
    length, parts = ("length/2", "parts/1") if by else (None, None)
    return FeatureSpec.from_mapping({
        "name": "s", "embedding_dim": 2,
        "features": [
            feature("words", "user", "numeric", length),
            feature("page", "context", "multi_valued", parts, buckets=99, max_values=3),
            feature("title", "candidate", "bucketised", length, boundaries=[2, 4]),
            feature("category", "candidate", "multi_valued", parts, buckets=99, max_values=3),
            feature("brand", "candidate", "categorical", None, buckets=99),
        ],
    })  # fmt: skip


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    entries = {"ctr_streamer.transforms": {"length": "length", "parts": "parts"}}
    with installed(tmp_path_factory.mktemp("package"), CODE, entries):
        yield


# Those that the transforms take; then their results. 7 has no length, and neither a number nor a set can be split.
DOCUMENTS: tuple[dict[str, object], ...] = (
    {"words": ["a", "b"], "page": "x/y"},
    {"words": 7, "page": 7},
    {"page": "a set"},
    {"words": "abc"},
)
RESULTS: tuple[dict[str, object], ...] = ({"words": 2, "page": ["x", "y"]}, {}, {}, {"words": 3})
CANDIDATES = (
    {"ad_id": "1", "title": "abcd", "category": "x/y", "brand": "z"},
    {"ad_id": "2", "title": 7.5, "category": None, "brand": "x/y"},
    {"ad_id": "3", "title": "a", "category": "set"},
)
ENCODED = (
    {"ad_id": "1", "title": 4, "category": ["x", "y"], "brand": "z"},
    {"ad_id": "2", "brand": "x/y"},
    {"ad_id": "3", "title": 1, "category": ["set"]},
)


def requests(document: dict[str, object], candidates: tuple[dict[str, Any], ...]) -> list[BidRequest]:
    n = len(candidates)
    columns = {key: [c.get(key) for c in candidates] for key in ("ad_id", "title", "category", "brand")}
    return [
        BidRequest("r", document, n, list(map(orjson.dumps, candidates)), None, None, None),
        BidRequest("r", document, n, None, columns, None, None),
    ]


def assert_same(found: EncodedRequest, expected: EncodedRequest) -> None:
    for name in ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids", "keys"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("i", range(len(DOCUMENTS)))
def test_rows_and_columns_have_the_encoding_of_the_results(i: int) -> None:
    encoder, plain = Encoder(spec_of(by=True)), Encoder(spec_of(by=False))
    expected = plain.encode(requests(dict(RESULTS[i]), ENCODED)[0])
    for request in requests(dict(DOCUMENTS[i]), CANDIDATES) * 2:  # the second time from memoised rows
        assert_same(encoder.encode(request), expected)
        assert encoder.present(request, 8) == plain.present(requests(dict(RESULTS[i]), ENCODED)[0], 8)


def test_ads_of_a_table_have_the_encoding_of_ads_in_the_request() -> None:
    encoder = Encoder(spec_of(by=True))
    table = FakeAds(encoder.row_form())
    table.put({str(ad["ad_id"]): ad for ad in CANDIDATES})
    expected = encoder.encode(requests(dict(DOCUMENTS[0]), CANDIDATES)[0])
    for request in requests(dict(DOCUMENTS[0]), tuple({"ad_id": ad["ad_id"]} for ad in CANDIDATES)):
        assert_same(encoder.with_ads(table).encode(request), expected)


def test_training_has_the_encoding_of_the_scorer() -> None:
    encoder, plain = Encoder(spec_of(by=True)), Encoder(spec_of(by=False))
    shown = [3] * len(DOCUMENTS)
    logged = encoder.encode_log(DOCUMENTS, CANDIDATES * len(DOCUMENTS), shown)
    expected = plain.encode_log(RESULTS, ENCODED * len(DOCUMENTS), shown)
    for found, wanted in zip(logged, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_preparation_reads_the_results_from_requests_and_from_tables() -> None:
    spec = spec_of(by=True)
    document = {**DOCUMENTS[0], "request_id": "r", "candidates": CANDIDATES}
    batch = pa.record_batch({"request": [orjson.dumps(document).decode()] * 2, "ad_id": ["1", "2"]})
    values = RequestReader(spec.to_json())(batch)
    assert values.by_feature == {
        "words": [2, 2],
        "page": [["x", "y"]] * 2,
        "title": [4, None],
        "category": [["x", "y"], None],
        "brand": ["z", "x/y"],
    }
    reader = ColumnReader(("title", "brand"), (), transforms={"title": "length/2"})
    texts = pa.array(["abcd", None])
    batch = pa.record_batch({"f0": texts, "f1": texts, "user_id": texts, "request_id": texts})
    assert reader(batch).by_feature == {"title": [4, None], "brand": ["abcd", None]}


def test_the_hash_names_the_transform_and_without_one_is_that_of_before() -> None:
    by, plain = spec_of(by=True), spec_of(by=False)
    assert by.hash != plain.hash
    assert plain.hash == "5ed6512a373f949a"
    assert FeatureSpec.from_json(by.to_json()).hash == by.hash


def test_a_schema_leaves_the_type_to_the_transform() -> None:
    properties: Any = request_schema(10, spec_of(by=True))["properties"]
    assert properties["words"]["type"] == ["array", "boolean", "number", "object", "string", "null"]
    assert properties["words"]["description"] == "numeric feature `words`, by length/2"


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        ("length/1", "ctr_streamer.transforms: 'length' has version 2 here, not 1: install the package with version 1"),
        ("size/1", "ctr_streamer.transforms: 'size' is not installed; installed: length, parts"),
        ("length", "String should match pattern"),
    ],
)
def test_a_spec_whose_transform_is_not_here_is_rejected_in_one_line(by: str, reason: str) -> None:
    content = {
        "name": "s",
        "embedding_dim": 1,
        "features": [feature(name, "user", "numeric", how) for name, how in {"age": None, "words": by}.items()],
    }
    with pytest.raises(SpecError) as caught:
        FeatureSpec.from_mapping(content, "spec.yaml")
    assert str(caught.value).startswith("spec.yaml: feature 'words'")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
