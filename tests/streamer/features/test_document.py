"""A document encoded by itself has the bits of the encoding of many."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.features import Encoder, FeatureSpec
from streamer.features.document import DocumentEncoder
from streamer.features.hashing import TextHasher
from streamer.features.layout import Layout
from streamer.features.side import SideEncoder
from streamer.types import BidRequest

KEYS = ("a", "b", "c")
PATHS = st.sampled_from([*KEYS, "a.b", "a.b.c", "a[0]", "b[*]", "c[*].a", "a.c[1].b", "b.a"])
WORDS = st.sampled_from(["x", "y", "1", "true", "2.5"])
NUMBERS = st.floats(-100, 100, width=32)
KINDS: dict[str, dict[str, Any]] = {
    "categorical": {"buckets": st.integers(2, 9), "default": st.none() | WORDS},
    "words": {"vocabulary": st.lists(WORDS, min_size=1, unique=True), "default": st.none() | WORDS},
    "multi_valued": {"buckets": st.integers(1, 9), "max_values": st.integers(1, 3), "default": st.none() | WORDS},
    "bucketised": {
        "boundaries": st.lists(NUMBERS, min_size=1, max_size=4, unique=True).map(sorted),
        "default": st.none() | NUMBERS,
    },
    "numeric": {
        "log": st.booleans(),
        "mean": NUMBERS,
        "std": st.sampled_from([1e-300, 0.5, 1.0, 7.25]),
        "clip": st.sampled_from([0.3, 10.0, 1e30]),
        "default": st.none() | NUMBERS,
        "missing_indicator": st.booleans(),
    },
}


@st.composite
def specs(draw: st.DrawFn) -> FeatureSpec:
    """Features of all kinds for the request and one of the candidate, and crosses of them."""
    features: list[dict[str, Any]] = [
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 7, "wide": True}
    ]
    for i in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(list(KINDS)))
        options = {name: draw(value) for name, value in KINDS[kind].items()}
        side = draw(st.sampled_from(["user", "context"]))
        features.append({
            "name": f"f{i}", "path": draw(PATHS), "side": side, "wide": True,
            "kind": "categorical" if kind == "words" else kind, **options,
        })  # fmt: skip
    parents = [f["name"] for f in features if f["kind"] != "numeric"]
    if len(parents) > 1:
        for i in range(draw(st.integers(0, 4))):
            of = draw(st.lists(st.sampled_from(parents), min_size=2, max_size=min(3, len(parents)), unique=True))
            features.append(
                {"name": f"x{i}", "kind": "cross", "of": of, "buckets": draw(st.integers(1, 99)), "wide": True}
            )
    return FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features})


SCALARS = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, 1.0, -0.0, "", "x", "y", "1", "true", "2.5", "-0", "inf", "1e999", "nan"]
    ),
    st.sampled_from([2**53 + 1, -(2**63), 2**64, 10**400, 1e300, -1e300, 5e-324]),
    st.floats(allow_nan=False),
    st.integers(-(2**70), 2**70),
    st.text(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)


@settings(max_examples=50)
@given(
    specs(), st.lists(st.tuples(DOCUMENTS, st.booleans()), min_size=1, max_size=4), st.sampled_from([0, 1500, 2**20])
)
def test_one_document_has_the_bits_of_many(
    spec: FeatureSpec, documents: list[tuple[dict[str, object], bool]], max_bytes: int
) -> None:
    side_counts, counts = Counter[str](), Counter[str]()
    side = SideEncoder(Layout(spec), candidates=False, hasher=TextHasher(), out_of_range=side_counts)
    encoder = DocumentEncoder(side.plan, counts, max_bytes)
    both = documents * 2  # the second time from memoised values
    whole = side.encode_documents([document for document, _ in both], [denied for _, denied in both])
    for i, (document, denied) in enumerate(both):
        one = encoder.encode(document, denied=denied)
        for part, many in zip(list[Any](one), list[Any](whole), strict=True):
            assert part.dtype == many.dtype
            assert part.tobytes() == many[i : i + 1].tobytes()
        assert encoder.used_bytes <= max(max_bytes, 500)
    assert counts == side_counts


def test_many_joins_have_the_bits_of_few() -> None:
    lists = [
        {"name": n, "path": n, "side": "user", "kind": "multi_valued", "buckets": 99, "max_values": 8, "wide": True}
        for n in KEYS
    ]
    crosses = [
        {"name": a + b, "kind": "cross", "of": [a, b], "buckets": 1000, "wide": True} for a, b in ("ab", "bc", "ac")
    ]
    spec = FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [*lists, *crosses]})
    document = {"a": ["x"], "b": list(range(9)), "c": [True, None, "y"]}
    side = SideEncoder(Layout(spec), candidates=False, hasher=TextHasher(), out_of_range=Counter())
    one = DocumentEncoder(side.plan, Counter()).encode(document, denied=False)
    for part, many in zip(list[Any](one), list[Any](side.encode_documents([document])), strict=True):
        assert part.tobytes() == many.tobytes()


@settings(max_examples=25)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys("tlb", VALUES)), min_size=1, max_size=5))
def test_columns_have_the_bits_of_rows(candidates: list[dict[str, Any]]) -> None:
    common = {"side": "candidate", "wide": True}
    features = [
        {"name": "t", "path": "t", "kind": "categorical", "buckets": 1000, **common},
        {"name": "l", "path": "l", "kind": "multi_valued", "buckets": 1000, "max_values": 2, **common},
        {"name": "b", "path": "b", "kind": "bucketised", "boundaries": [0, 1], **common},
        {"name": "n", "path": "b", "kind": "numeric", **common},
        {"name": "m", "path": "b", "kind": "numeric", "missing_indicator": True, **common},
        {"name": "x", "kind": "cross", "of": ["t", "l", "b"], "buckets": 1000, "wide": True},
    ]
    encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features}))
    ads = [{"ad_id": f"a{i}", **candidate} for i, candidate in enumerate(candidates)]
    columns = BidRequest("r", {}, len(ads), columns={key: [ad[key] for ad in ads] for key in ads[0]})
    expected = encoder.encode_log([{}], ads, [len(ads)])
    for _ in range(2):
        for part, many in zip(encoder.flat_rows(encoder.encode(columns)), expected, strict=True):
            assert part.tobytes() == many.tobytes()


@pytest.mark.parametrize("others", [[1, 1.0, True], ["1", 1], [[1], [True]], [None, "", []]])
def test_values_that_python_finds_equal_keep_their_own_ids(others: list[object]) -> None:
    features = [
        {"name": name, "path": name, "side": side, "kind": "categorical", "buckets": 10**6, "wide": True}
        for name, side in (("of_user", "user"), ("of_ad", "candidate"))
    ]
    encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features}))
    for value in others * 2:
        ad = {"ad_id": "a", "of_ad": value}
        fields = {"of_user": value}
        expected = encoder.encode_log([fields], [ad], [1])
        for request in (
            BidRequest("r", fields, 1, rows=[msgspec.json.encode(ad)]),
            BidRequest("r", fields, 1, columns={key: [v] for key, v in ad.items()}),
        ):
            encoded = encoder.flat_rows(encoder.encode(request))
            assert all(np.array_equal(a, b) for a, b in zip(encoded, expected, strict=True))


def test_a_missing_number_with_an_indicator_differs_from_the_mean() -> None:
    common = {"path": "x", "kind": "numeric", "mean": 2, "default": 2, "missing_indicator": True, "wide": True}
    features = [{"name": side, "side": side, **common} for side in ("user", "candidate")]
    encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features}))
    keys = []
    for value, missing in ((2, 0.0), (None, 1.0), ("x", 1.0), (10**400, 1.0)):
        fields, candidate = {"x": value}, {"ad_id": "a", "x": value}
        _, log = encoder.encode_log([fields], [candidate], [1])
        encoded = encoder.encode(BidRequest("r", fields, 1, columns={"ad_id": ["a"], "x": [value]}))
        for _, floats in (encoder.encode_table({"user": [value], "candidate": [value]}, 1), encoder.flat_rows(encoded)):
            assert floats.tobytes() == log.tobytes()
        assert log.tolist() == [[0.0, missing, 0.0, missing]]
        keys.append((*encoded.keys[0].tolist(), int(encoded.ad_keys[0])))
    # The score cache must not give one the score of the other.
    assert all(a != b for a, b in zip(keys[0], keys[1], strict=True))
    assert keys[1] == keys[2] == keys[3]


def test_columns_without_hashed_features() -> None:
    features = [
        {"name": "of_user", "path": "u", "side": "user", "kind": "categorical", "buckets": 99, "wide": True},
        {"name": "bid", "path": "bid", "side": "candidate", "kind": "numeric", "deep": True},
    ]
    for kept in (features, features[:1]):
        encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": kept}))
        encoded = encoder.encode(BidRequest("r", {"u": "x"}, 2, columns={"ad_id": ["a", "b"], "bid": [1, 2]}))
        _, floats = encoder.flat_rows(encoded)
        assert floats.tolist() == ([[1.0], [2.0]] if kept is features else [[], []])
        assert encoded.keys.shape == (2, 2)
