"""Features that share rows of the fused table, and their own dimensions."""

import copy
from typing import Any

import msgspec
import numpy as np
import pytest

from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.types import BidRequest

_SPEC: dict[str, Any] = {
    "name": "shared",
    "embedding_dim": 4,
    "features": [
        {"name": "seen", "path": "seen", "side": "user", "kind": "multi_valued", "shares": "ad", "max_values": 2},
        {"name": "last", "path": "last", "side": "user", "kind": "categorical", "shares": "ad"},
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 1000},
        {"name": "tag", "path": "tag", "side": "candidate", "kind": "multi_valued", "buckets": 9, "max_values": 2},
        {"name": "os", "path": "os", "side": "context", "kind": "categorical", "vocabulary": ["a"]},
    ],
}
for _feature in _SPEC["features"]:
    _feature["deep"] = True


def _changed(name: str, **changes: object) -> dict[str, Any]:
    content = copy.deepcopy(_SPEC)
    next(feature for feature in content["features"] if feature["name"] == name).update(changes)
    return content


def test_a_value_has_the_row_that_it_has_in_the_shared_feature() -> None:
    encoder = Encoder(FeatureSpec.from_mapping(_SPEC))
    ads = [{"ad_id": "a1"}, {"ad_id": "a2"}]
    for fields in ({"seen": ["a2", "a1"], "last": "a1"}, {"seen": ["a2"]}, {"last": None}):
        ids, _ = encoder.encode_log([fields], ads, [2])
        a1, a2 = (ids[i, encoder.layout.id_width("request")] for i in (0, 1))
        missing = encoder.layout.ids["candidate"][0].offset
        row = {"a1": a1, "a2": a2}
        seen = [row[ad] for ad in fields.get("seen") or []]
        assert ids[0, :2].tolist() == [*seen, 0, 0][:2]
        assert ids[0, 2] == row.get(str(fields.get("last")), missing)
        request = BidRequest("r", fields, 2, rows=[msgspec.json.encode(ad) for ad in ads])
        np.testing.assert_array_equal(encoder.flat_rows(encoder.encode(request))[0], ids)


def test_only_features_with_rows_of_their_own_have_rows() -> None:
    layout = Layout(FeatureSpec.from_mapping(_changed("tag", embedding_dim=2)))
    assert [(e.dim, e.start, e.end) for e in layout.embedded] == [(2, 1, 10), (4, 10, 10 + 1000 + 3)]
    assert layout.embedded_rows == layout.table_rows == 1013
    assert {c.feature.name: c.dim for ids in layout.ids.values() for c in ids} == {
        **dict.fromkeys(("seen", "last", "ad", "os"), 4),
        "tag": 2,
    }


@pytest.mark.parametrize(
    ("feature", "changes", "said"),
    [
        ("ad", {"embedding_dim": 0}, r"feature 'ad'.*embedding_dim.*\(got 0\)"),
        (
            "os",
            {"embedding_dim": 2, "deep": False, "wide": True},
            "feature 'os': embedding_dim is only for a deep feature",
        ),
        ("last", {"embedding_dim": 2}, "feature 'last': embedding_dim: it is that of 'ad', whose rows it shares"),
        ("last", {"shares": "as"}, "feature 'last': shares: 'as' is not a deep feature with buckets"),
        ("last", {"shares": "os"}, "feature 'last': shares: 'os' is not a deep feature with buckets"),
        ("last", {"shares": "seen"}, "feature 'last': shares: 'seen' is not a deep feature with buckets"),
        ("last", {"shares": "tag"}, "'tag' is multi_valued; let 'tag' share the rows of 'last'"),
        ("last", {"buckets": 9}, "give either buckets or a vocabulary, not with shares"),
        ("seen", {"buckets": 9}, "give either buckets, at least 1, or shares"),
        ("ad", {"deep": False, "wide": True}, "shares: 'ad' is not a deep feature with buckets"),
    ],
)
def test_what_cannot_be_shared_is_named(feature: str, changes: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        FeatureSpec.from_mapping(_changed(feature, **changes))
