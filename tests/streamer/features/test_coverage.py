"""A feature has a value where the encoder can use one, whatever the form of the request."""

import sys
from difflib import SequenceMatcher
from types import FrameType

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.features import Encoder, FeatureSpec
from streamer.features.coverage import Coverage, Paths, present, read_features
from streamer.types import BidRequest
from tests.streamer.specs import SMALL, small_spec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2), lambda x: st.lists(x, max_size=3)
)
ENCODER = Encoder(small_spec())
FEATURES = {feature.name: feature for feature in read_features(small_spec())}
# Alone in a spec, and without a default: a missing value has the encoding of None.
ALONE = {
    name: Encoder(FeatureSpec.model_validate({"name": name, "embedding_dim": 2, "features": [feature]}))
    for name in ("user", "sex", "likes", "age")
    for feature in [FEATURES[name]]
}


@settings(max_examples=40)
@given(column=st.lists(JSON, max_size=5))
def test_a_value_is_present_unless_it_is_encoded_as_none_is(column: list[object]) -> None:
    for name, alone in ALONE.items():
        ids, _ = alone.encode_table({name: [*column, None]}, len(column) + 1)
        is_missing = (ids == ids[-1]).all(axis=1)
        assert is_missing[:-1].tolist() == (~present(FEATURES[name], column)).tolist()


def test_rows_columns_and_a_log_count_the_same() -> None:
    spec = FeatureSpec.from_mapping(SMALL)
    candidates: list[dict[str, object]] = [{"ad_id": f"a{i}", "campaign": "c" if i % 2 else None} for i in range(6)]
    fields: dict[str, object] = {"user": {"id": "u"}, "context": {}}
    columns = {key: [ad[key] for ad in candidates] for key in ("ad_id", "campaign")}
    rows = BidRequest("r", fields, 6, rows=[orjson.dumps(ad) for ad in candidates])
    found = ENCODER.present(rows, 6)
    of_columns = ENCODER.present(BidRequest("r", fields, 6, columns=columns), 6)
    assert found == of_columns
    coverage = Coverage(spec)
    Encoder(spec).encode_log([fields], candidates, [6], coverage)
    names = [feature.name for feature in ENCODER.read_features]
    assert {name: sum(mask) for name, mask in zip(names, found, strict=True)} == coverage.present
    assert {name: len(mask) for name, mask in zip(names, found, strict=True)} == coverage.seen


@pytest.mark.parametrize(("size", "most", "places"), [(0, 8, 0), (1, 8, 1), (8, 8, 8), (9, 8, 5), (300, 8, 8)])
def test_at_most_so_many_candidates_are_looked_at(size: int, most: int, places: int) -> None:
    request = BidRequest("r", {}, size, columns={"ad_id": [f"a{i}" for i in range(size)]})
    assert len(ENCODER.present(request, most)[-1]) == places


def test_the_most_similar_path_is_found() -> None:
    paths = Paths()
    paths.look_at([{"user": {"id": "u", "segments": [1], "data": [{"id": "d"}, {"name": "n"}], "none": None}}])
    assert paths.nearest("user.segment") == "user.segments"
    assert paths.nearest("user.segments") == "user.segments"
    assert paths.nearest("user.data[*].ids") == "user.data[*].id"
    assert paths.nearest("user.data[*].name") == "user.data[*].name"
    assert paths.nearest("profile.segments") == "user.segments"
    assert paths.nearest("user.likes") is None


def test_the_search_for_a_similar_path_has_a_bound() -> None:
    paths, compared = Paths(), 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal compared
        compared += event == "call" and frame.f_code is SequenceMatcher.ratio.__code__

    paths.look_at([{"user": {f"k{i}": i for i in range(3_000)}, "page": {"segments": 1}, "likes": 1}])
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = [paths.nearest(path) for path in ("user.k2999", "user.segments", "user.k_2998")]
    finally:
        sys.setprofile(before)
    assert found[:2] == ["user.k2999", "page.segments"]
    assert found[2] is not None
    assert compared <= 200


def test_a_deep_or_huge_document_has_as_many_paths_as_a_spec_can_use() -> None:
    document: dict[str, object] = {"end": 1}
    for _ in range(2_000):
        document = {"a": document}
    paths = Paths()
    paths.look_at([document, {"user": {"id": 1}}, {f"k{i}": 1 for i in range(20_000)}])
    assert paths.nearest("user.ids") == "user.id"
    assert paths.nearest("k19999") != "k19999"
