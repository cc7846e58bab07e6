import math
import os
import subprocess
import sys
import tracemalloc
from bisect import bisect_right
from collections.abc import Callable
from itertools import product

import msgspec
import numpy as np
import orjson
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import InvalidRequestError
from streamer.features import GROUPS, Bucketised, Cross, Encoder, FeatureSpec, Numeric
from streamer.features.hashing import MISSING, canonical, hash64, to_float
from streamer.features.kinds import Categorical, Feature, MultiValued
from streamer.features.paths import getter
from streamer.types import F32, BidRequest, EncodedRequest
from tests.streamer.features.test_hashing import join_plainly, mix_plainly
from tests.streamer.specs import candidates, documents, requests, scalars, small_spec

Document = dict[str, object]
SPEC = small_spec()
ENCODER = Encoder(SPEC, memoised_ads=64)


def by_rows(fields: Document, ads: list[Document]) -> BidRequest:
    return BidRequest("r", fields, len(ads), rows=[msgspec.json.encode(ad) for ad in ads])


def by_columns(fields: Document, ads: list[Document]) -> BidRequest:
    keys = dict.fromkeys(key for ad in ads for key in ad)
    return BidRequest("r", fields, len(ads), columns={key: [ad.get(key) for ad in ads] for key in keys})


def same(a: EncodedRequest, b: EncodedRequest) -> bool:
    return list(a.ad_ids) == list(b.ad_ids) and all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for part in ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids", "keys")
    )


ads = st.lists(candidates, min_size=1, max_size=6)


# The encoding in plain Python, value by value.


def plain_hashes(feature: Feature, document: object) -> list[int]:
    assert not isinstance(feature, Cross)
    value = getter(feature.path)(document)
    if isinstance(feature, MultiValued):
        texts = [t for v in (value if isinstance(value, list) else [value]) if (t := canonical(v)) is not None]
        texts = texts[: feature.max_values] or ([feature.default] if feature.default else [])
        return [hash64(t) for t in texts] + [0] * (feature.max_values - len(texts))
    if isinstance(feature, Bucketised):
        return [mix_plainly(plain_bucket(feature, value) + 1)]
    text = canonical(value) or feature.default
    return [MISSING if text is None else hash64(str(text))]


def plain_bucket(feature: Bucketised, value: object) -> int:
    number = to_float(value)
    if not math.isfinite(number):
        if feature.default is None:
            return 0
        number = feature.default
    return 1 + sum(number >= boundary for boundary in feature.boundaries)


def plain_ids(feature: Feature, offset: int, fields: Document, ad: Document) -> list[int]:
    if isinstance(feature, Cross):
        ids = []
        parents = SPEC.parents(feature)
        sides = [plain_hashes(p, ad if p.side == "candidate" else fields) for p in parents]
        for choice in product(*sides):
            request = [h for h, p in zip(choice, parents, strict=True) if p.side != "candidate"]
            candidate = [h for h, p in zip(choice, parents, strict=True) if p.side == "candidate"]
            folded = [plain_fold(half) for half in (request, candidate) if half]
            ids.append(0 if 0 in choice else offset + plain_fold(folded) % feature.buckets)
        return ids
    document = ad if feature.side == "candidate" else fields
    if isinstance(feature, Bucketised):
        return [offset + plain_bucket(feature, getter(feature.path)(document))]
    hashes = plain_hashes(feature, document)
    if isinstance(feature, MultiValued):
        return [h and offset + h % feature.buckets for h in hashes]
    assert isinstance(feature, Categorical)
    if hashes == [MISSING]:
        return [offset]
    if feature.vocabulary:
        known = {hash64(word): 2 + i for i, word in enumerate(feature.vocabulary)}
        return [offset + known.get(hashes[0], 1)]
    return [offset + 1 + hashes[0] % (feature.buckets - 1)]


def plain_fold(hashes: list[int]) -> int:
    folded, *others = hashes
    for other in others:
        folded = join_plainly(folded, other)
    return folded


@settings(max_examples=60)
@given(fields=requests, some=ads)
def test_every_id_equals_the_plain_computation(fields: Document, some: list[Document]) -> None:
    encoded = ENCODER.encode(by_rows(fields, some))
    matrices = {"request": encoded.request_ids, "candidate": encoded.candidate_ids, "pair": encoded.pair_ids}
    for group in GROUPS:
        for c in ENCODER.layout.ids[group]:
            block = matrices[group][:, c.start : c.start + c.width]
            for row, ad in zip(np.broadcast_to(block, (len(some), c.width)).tolist(), some, strict=True):
                assert row == plain_ids(c.feature, c.offset, fields, ad), c.feature.name


@settings(max_examples=60)
@given(fields=requests, some=ads)
def test_rows_and_columns_have_equal_encodings(fields: Document, some: list[Document]) -> None:
    assert same(ENCODER.encode(by_rows(fields, some)), ENCODER.encode(by_columns(fields, some)))


def test_nested_columns_may_be_objects_of_columns_or_columns_of_objects() -> None:
    some: list[Document] = [{"ad_id": "a", "banner": {"size": "s"}}, {"ad_id": "b", "banner": {"size": "l"}}]
    columns = {"ad_id": ["a", "b"], "banner": {"size": ["s", "l"]}}
    outside = ENCODER.encode(BidRequest("r", {}, 2, columns=columns))
    assert same(outside, ENCODER.encode(by_rows({}, some)))
    assert same(outside, ENCODER.encode(by_columns({}, some)))


@settings(max_examples=60)
@given(fields=documents, some=ads)
def test_no_value_raises_and_ids_are_in_their_rows(fields: object, some: list[Document]) -> None:
    request = fields if isinstance(fields, dict) else {"user": fields, "context": fields}
    encoded = ENCODER.encode(by_rows(request, some))
    ids, floats = ENCODER.flat_rows(encoded)
    assert ids.shape == (len(some), ENCODER.layout.row_ids)
    assert floats.shape == (len(some), ENCODER.layout.row_floats)
    assert np.isfinite(floats).all()
    at = 0
    for group in GROUPS:
        for c in ENCODER.layout.ids[group]:
            block = ids[:, at : at + c.width]
            at += c.width
            padded = isinstance(c.feature, MultiValued) or c.width > 1
            assert (((block >= c.offset) & (block < c.offset + c.rows)) | (padded & (block == 0))).all(), c.feature.name


@settings(max_examples=60)
@given(fields=requests, some=ads)
def test_a_log_has_the_encoding_of_serving(fields: Document, some: list[Document]) -> None:
    served = ENCODER.flat_rows(ENCODER.encode(by_rows(fields, some)))
    logged = ENCODER.encode_log([fields], some, [len(some)])
    for a, b in zip(served, logged, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_a_table_has_the_encoding_of_the_log() -> None:
    fields: Document = {"user": {"id": 7, "likes": ["x", "y"]}, "context": {"hour": 3}}
    ad: Document = {"ad_id": "a", "campaign": "c", "tags": ["t", "u"], "bid": 1.5}
    table = {
        f.name: [getter(f.path)(ad if f.side == "candidate" else fields)]
        for f in SPEC.features
        if not isinstance(f, Cross) and f.name != "pace"
    }
    for a, b in zip(ENCODER.encode_table(table, 1), ENCODER.encode_log([fields], [ad], [1]), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=60)
@given(data=st.data(), capacity=st.sampled_from([0, 1, 3, 8]), max_bytes=st.sampled_from([0, 300, 1000, 2**20]))
def test_memoising_never_changes_a_row(data: st.DataObject, capacity: int, max_bytes: int) -> None:
    small, forgetful = Encoder(SPEC, memoised_ads=capacity, memo_bytes=max_bytes), Encoder(SPEC, memoised_ads=0)
    pool: list[Document] = [{"ad_id": f"a{i}", "campaign": i % 5, "bid": i} for i in range(14)]
    for picks in data.draw(st.lists(st.lists(st.integers(0, 13), min_size=1, max_size=9), max_size=8)):
        request = by_rows({"user": {"id": 1}}, [pool[i] for i in picks])
        assert same(small.encode(request), forgetful.encode(request))


@pytest.mark.parametrize("text", ["x", "\u00fc", "\U0001f600"])
def test_the_memos_are_bounded_in_bytes(text: str) -> None:
    # Each request has new candidates, new texts and an ad id as long as the record.
    limit = 2**18
    encoder = Encoder(SPEC, memo_bytes=limit)
    long = text * 5_000

    def answer(i: int) -> None:
        some: list[Document] = [{"ad_id": f"{i}-{k}-{long}", "campaign": f"{i}-{k}-{text * 100}"} for k in range(3)]
        user: Document = {"id": f"{i}{long}", "likes": [f"{i}-{k}{long}" for k in range(3)]}
        orjson.dumps(encoder.encode(by_rows({"user": user}, some)).ad_ids)  # adds the UTF-8 form to each text

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(100):
            answer(i)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2 * limit
    known: list[Document] = [{"ad_id": f"a{k}"} for k in range(300)]
    new, added, found = (encoder.encode(by_rows({}, known)) for _ in range(3))
    assert same(new, added)
    assert all(a is b for a, b in zip(added.ad_ids, found.ad_ids, strict=True)), "the memo has room again"


def test_an_ad_with_changed_features_is_encoded_again() -> None:
    before, after = (
        ENCODER.encode(by_rows({}, [{"ad_id": "a", "campaign": c}])).candidate_ids.tolist() for c in ("one", "two")
    )
    assert before != after


def test_a_bad_candidate_is_named_and_changes_nothing() -> None:
    encoder = Encoder(SPEC, memoised_ads=4)
    good = by_rows({}, [{"ad_id": "a", "campaign": 1}, {"ad_id": "b", "campaign": 2}])
    before = encoder.encode(good)
    for bad, field, reason in [
        (b"3", "candidates[1]", "expected an object"),
        (b'{"ad_id": 1}', "candidates[1].ad_id", "expected a non-empty string, got 1"),
        (b'{"ad_id": ""}', "candidates[1].ad_id", "got ''"),
        (b"{}", "candidates[1].ad_id", "got nothing"),
        (b'{"ad_id": "a", "bid": 1e999}', "candidates[1]", "not valid JSON"),
        (b'{"ad_id": "\\ud800"}', "candidates[1]", "not valid JSON"),
        (b'{"ad_id": "a", "x": ' + b"[" * 2000 + b"]" * 2000 + b"}", "candidates[1]", "not valid JSON"),
    ]:
        with pytest.raises(InvalidRequestError) as caught:
            encoder.encode(BidRequest("r", {}, 3, rows=[b'{"ad_id": "z"}', bad, bad[:-1]]))
        assert caught.value.field == field
        assert reason in caught.value.reason
    assert same(encoder.encode(good), before)


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"ad_id": ["a"]}, "candidates.ad_id"),
        ({"ad_id": "ab"}, "candidates.ad_id"),
        ({}, "candidates.ad_id"),
        ({"ad_id": ["a", 3]}, "candidates[1].ad_id"),
        ({"ad_id": ["a", ""]}, "candidates[1].ad_id"),
        ({"ad_id": ["a", None]}, "candidates[1].ad_id"),
        ({"ad_id": ["a", "b"], "campaign": ["x"]}, "candidates.campaign"),
        ({"ad_id": ["a", "b"], "campaign": "xy"}, "candidates.campaign"),
        ({"ad_id": ["a", "b"], "tags": [["x"]]}, "candidates.tags[0]"),
    ],
)
def test_columns_that_do_not_fit_are_named(columns: Document, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ENCODER.encode(BidRequest("r", {}, 2, columns=columns))
    assert caught.value.field == field


# Values


def ids_of(name: str, fields: Document, ad: Document) -> list[int]:
    encoded = ENCODER.encode(by_rows(fields, [{"ad_id": "a", **ad}]))
    matrices = {"request": encoded.request_ids, "candidate": encoded.candidate_ids, "pair": encoded.pair_ids}
    column = next(c for group in GROUPS for c in ENCODER.layout.ids[group] if c.feature.name == name)
    block: list[int] = matrices[column.group][0, column.start : column.start + column.width].tolist()
    return [i and i - column.offset for i in block]


@pytest.mark.parametrize(
    ("value", "row"), [("f", 2), ("m", 3), ("x", 1), (None, 0), ("", 0), ([], 0), ({}, 0), (1, 1), (True, 1)]
)
def test_vocabulary_unknown_and_missing(value: object, row: int) -> None:
    assert ids_of("sex", {"user": {"sex": value}}, {}) == [row]


# Equal values in other types

_FORMS: dict[str, Callable[[int], object]] = {
    "an integer": int,
    "a float": float,
    "text": str,
    "a list of one value": lambda value: [value],
    "text in two lists": lambda value: [[str(value)]],
}


@settings(max_examples=60)
@given(
    user=st.integers(-(2**53), 2**53) | st.integers(0, 2**16).map(lambda i: i << 47),
    age=st.integers(0, 100),
    likes=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    bid=st.integers(0, 9),
    forms=st.lists(st.sampled_from(list(_FORMS)), min_size=4, max_size=4),
)
def test_equal_values_in_other_types_have_equal_encodings(
    user: int, age: int, likes: list[int], bid: int, forms: list[str]
) -> None:
    of_user, of_age, of_likes, of_bid = (_FORMS[form] for form in forms)

    def encoded(*, plain: bool) -> EncodedRequest:
        a, b, c, d = (int, int, int, int) if plain else (of_user, of_age, of_likes, of_bid)
        ad: Document = {"ad_id": "a", "campaign": a(user), "tags": [c(like) for like in likes], "bid": d(bid)}
        fields: Document = {
            "user": {"id": a(user), "age": b(age), "likes": [c(like) for like in likes]},
            "context": {"pace": d(bid), "hour": b(age)},
        }
        request = msgspec.json.decode(msgspec.json.encode(fields))
        return ENCODER.encode(by_rows(request, [ad]))

    assert same(encoded(plain=True), encoded(plain=False))


def test_one_value_counts_as_a_list_of_it() -> None:
    one: Document = {"user": {"likes": "x"}}
    many: Document = {"user": {"likes": ["x"]}}
    for ad in ({"tags": "t"}, {"tags": ["t"]}, {"tags": [["t"]]}):
        for fields in (one, many):
            request = by_rows(fields, [{"ad_id": "a", **ad}])
            expected = ENCODER.encode(by_rows(many, [{"ad_id": "a", "tags": ["t"]}]))
            assert same(ENCODER.encode(request), expected)
            assert same(ENCODER.encode(by_columns(fields, [{"ad_id": "a", **ad}])), expected)


@pytest.mark.parametrize("value", [None, "", {}, [], [1, 2], {"id": 1}, [None], [{}], [[], []]])
def test_every_other_type_counts_as_missing(value: object) -> None:
    fields: Document = {"user": {"id": value, "age": value}, "context": {"hour": value, "pace": value}}
    ad: Document = {"ad_id": "a", "campaign": value, "banner": {"size": value}, "bid": value}
    assert same(ENCODER.encode(by_rows(fields, [ad])), ENCODER.encode(by_rows({}, [{"ad_id": "a"}])))


@pytest.mark.parametrize("value", [None, "", 3, "x", True])
def test_a_place_that_is_no_object_has_no_values(value: object) -> None:
    ad: Document = {"ad_id": "a", "banner": value}
    fields: Document = {"user": value, "context": value}
    assert same(ENCODER.encode(by_rows(fields, [ad])), ENCODER.encode(by_rows({}, [{"ad_id": "a"}])))


def test_infinite_numbers_count_as_missing_and_are_counted() -> None:
    encoder = Encoder(SPEC)
    huge: Document = {"ad_id": "a", "bid": 10**400}
    encoder.encode(by_columns({"user": {"age": "1e999"}, "context": {"pace": "-inf"}}, [huge, huge]))
    assert dict(encoder.out_of_range) == {"age": 1, "pace": 1, "band": 2, "bid": 2}
    encoder.out_of_range.clear()
    encoder.encode(by_rows({"user": {"age": 1e300}}, [{"ad_id": "a", "bid": -5}]))
    assert not encoder.out_of_range


def test_a_default_replaces_a_missing_value() -> None:
    assert ids_of("size", {}, {}) == ids_of("size", {}, {"banner": {"size": "m"}}) == [3]
    assert ids_of("hour", {}, {}) == ids_of("hour", {"context": {"hour": 12.0}}, {})
    assert ids_of("tags", {}, {}) == ids_of("tags", {}, {"tags": ["none"]})
    assert ids_of("user", {}, {}) == [0]


@pytest.mark.parametrize(
    ("age", "bucket"),
    [
        (None, 0),
        ("no number", 0),
        ([], 0),
        (float("nan"), 0),
        (-1e300, 1),
        (17.999, 1),
        (18, 2),
        ("18", 2),
        (30.499999, 2),
        (30.5, 3),
        (64, 3),
        (65, 4),
        (10**400, 0),
        (-(10**400), 0),
        ("1e999", 0),
        ("-Infinity", 0),
        ("1_8", 0),
        (True, 1),
        ([18], 2),
        ([["18"]], 2),
        ([18, 18], 0),
    ],
)
def test_bucket_boundaries_belong_to_the_bucket_above(age: object, bucket: int) -> None:
    encoder_row = ENCODER.encode_table({"age": [age]}, 1)[0][0]
    column = next(c for c in ENCODER.layout.ids["request"] if c.feature.name == "age")
    assert encoder_row[column.start] - column.offset == bucket
    assert bucket == 0 or bisect_right((18, 30.5, 65), to_float(age)) + 1 == bucket


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.e - 1, (1.0 - 0.5) / 0.25),
        (None, (math.log(2) - 0.5) / 0.25),
        ("x", (math.log(2) - 0.5) / 0.25),
        (float("nan"), (math.log(2) - 0.5) / 0.25),
        (-5, -2.0),
        (0, -2.0),
        (1e300, 3.0),
        (10**400, (math.log(2) - 0.5) / 0.25),
        (-(10**400), (math.log(2) - 0.5) / 0.25),
        ("inf", (math.log(2) - 0.5) / 0.25),
        ([0], -2.0),
        ("1.5", (math.log(2.5) - 0.5) / 0.25),
    ],
)
def test_numbers_are_scaled_clipped_and_defaulted(value: object, expected: float) -> None:
    floats = ENCODER.encode_table({"bid": [value]}, 1)[1]
    assert floats.dtype == np.float32
    assert floats[0, 1] == pytest.approx(min(expected, 3.0), abs=1e-6)


@pytest.mark.parametrize(("value", "expected"), [(5, 2.0), (None, 0.0), (1e308, 10.0), (-1e308, -10.0), ({}, 0.0)])
def test_a_number_without_default_is_the_mean(value: object, expected: float) -> None:
    assert ENCODER.encode_table({"pace": [value]}, 1)[1][0, 0] == expected


def test_a_tiny_deviation_does_not_overflow() -> None:
    number = {"name": "n", "path": "n", "side": "user", "kind": "numeric", "std": 1e-10, "deep": True}
    spec = FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [number]})
    assert isinstance(spec.features[0], Numeric)
    assert Encoder(spec).encode_table({"n": [1e308, -1e308]}, 2)[1].tolist() == [[10.0], [-10.0]]


def test_a_spec_of_one_side_only() -> None:
    for side in ("user", "candidate"):
        one = {"name": "x", "path": "x", "side": side, "kind": "categorical", "buckets": 9, "wide": True}
        encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [one]}))
        encoded = encoder.encode(by_rows({"x": 1}, [{"ad_id": "a", "x": 1}, {"ad_id": "b", "x": 2}]))
        assert encoder.flat_rows(encoded)[0].shape == (2, 1)
        assert (encoded.keys[0] != encoded.keys[1]).any() == (side == "candidate")


# Keys


@settings(max_examples=60)
@given(fields=requests, other=requests, some=ads)
def test_equal_keys_mean_equal_ids_and_near_numbers(fields: Document, other: Document, some: list[Document]) -> None:
    rows: dict[bytes, tuple[list[int], F32]] = {}
    for request in (fields, other):
        encoded = ENCODER.encode(by_rows(request, some))
        ids, floats = ENCODER.flat_rows(encoded)
        for key, row_ids, row_floats in zip(encoded.keys, ids, floats, strict=True):
            first_ids, first_floats = rows.setdefault(key.tobytes(), (row_ids.tolist(), row_floats))
            assert first_ids == row_ids.tolist()
            assert np.abs(first_floats - row_floats).max(initial=0) <= 1 / 32


@settings(max_examples=60)
@given(user=scalars, hour=st.integers(0, 23), campaign=scalars)
def test_values_with_equal_texts_have_equal_keys(user: object, hour: int, campaign: object) -> None:
    ad: Document = {"ad_id": "a", "campaign": campaign, "bid": 0.0}
    alike: Document = {"unknown": 1, "bid": -0.0, "campaign": canonical(campaign), "ad_id": "b"}
    a = ENCODER.encode(by_rows({"user": {"id": user}, "context": {"hour": hour, "pace": 1}}, [ad]))
    b = ENCODER.encode(by_rows({"user": {"id": canonical(user)}, "context": {"hour": str(hour)}}, [alike]))
    assert np.array_equal(a.keys, b.keys)


def test_a_slightly_higher_price_has_the_same_key() -> None:
    number = {"name": "n", "path": "n", "side": "candidate", "kind": "numeric", "mean": 1, "std": 0.5, "deep": True}
    encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [number]}))
    prices = [2.0, 2.005, 2.05, 1.995]
    encoded = encoder.encode(by_rows({}, [{"ad_id": "a", "n": price} for price in prices]))
    keys = [key.tobytes() for key in encoded.keys]
    assert keys[0] == keys[1] == keys[3] != keys[2]
    assert len(set(encoded.candidate_floats[:, 0].tolist())) == 4


@pytest.mark.filterwarnings("error")
def test_numbers_with_a_large_clip_have_different_keys() -> None:
    number = {"name": "n", "path": "n", "side": "candidate", "kind": "numeric", "clip": 1e30, "deep": True}
    encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [number]}))
    numbers = [1e18, 2e18, -1e18, 1e30, -1e30, 0.0]
    encoded = encoder.encode(by_rows({}, [{"ad_id": "a", "n": number} for number in numbers]))
    assert len({key.tobytes() for key in encoded.keys}) == len(numbers)


def test_minus_zero_is_zero_in_a_key() -> None:
    number = {"name": "n", "path": "n", "side": "user", "kind": "numeric", "deep": True}
    encoder = Encoder(FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [number]}))
    zeros = [encoder.encode(by_rows({"n": x}, [{"ad_id": "a"}])) for x in (0.0, -0.0)]
    assert np.signbit([z.request_floats[0, 0] for z in zeros]).tolist() == [False, True]
    assert np.array_equal(zeros[0].keys, zeros[1].keys)


@pytest.mark.parametrize(
    ("fields", "ad"),
    [
        ({"user": {"id": "v"}}, {}),
        ({"user": {"sex": "f"}}, {}),
        ({"user": {"likes": ["y", "x"]}}, {}),
        ({"user": {"likes": ["x"]}}, {}),
        ({"user": {"age": 40}}, {}),
        ({"context": {"pace": 2}}, {}),
        ({}, {"campaign": "d"}),
        ({}, {"bid": 1.5}),
        ({}, {"tags": ["t"]}),
        ({}, {"banner": {"size": "s"}}),
    ],
)
def test_each_feature_is_part_of_the_key(fields: dict[str, Document], ad: Document) -> None:
    base: dict[str, Document] = {"user": {"id": "u", "likes": ["x", "y"], "age": 20}, "context": {"pace": 1}}
    changed: dict[str, Document] = {side: {**values, **fields.get(side, {})} for side, values in base.items()}
    keys = [
        ENCODER.encode(by_rows({**f}, [{"ad_id": "a", "campaign": "c", "bid": 1, **a}])).keys.tolist()
        for f, a in ((base, {}), (changed, ad))
    ]
    assert keys[0][0][0] != keys[1][0][0]
    assert keys[0][0][1] != keys[1][0][1]


# The same in every process and on every platform

GOLDEN_FIELDS: Document = {
    "user": {"id": "u-1", "sex": "f", "likes": ["Ünï", 3], "age": 30.5},
    "context": {"hour": 7, "pace": 2},
}
GOLDEN_AD: Document = {"ad_id": "a", "campaign": 12, "banner": {"size": "l"}, "tags": ["x", None, "y"], "bid": 0.25}


def test_the_encoding_never_changes() -> None:
    encoded = ENCODER.encode(by_rows(GOLDEN_FIELDS, [GOLDEN_AD]))
    ids, floats = ENCODER.flat_rows(encoded)
    assert ids.tolist() == [
        [266, 3, 14, 34, 0, 45, 285, 474, 332, 64, 71, 367, 352, 525, 496, 689, 116, 88, 107, 88, 0, 0, 717]
    ]
    assert floats.tolist() == [[0.5, -1.1074258089065552]]
    assert encoded.keys.tolist() == [[2549379349015846061, 18330288324920860947]]


def test_another_process_gives_equal_encodings() -> None:
    code = (
        "from tests.streamer.features.test_encoder import *\n"
        "e = Encoder(SPEC).encode(by_columns(GOLDEN_FIELDS, [GOLDEN_AD]))\n"
        "print(Encoder(SPEC).flat_rows(e)[0].tolist(), e.keys.tolist())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "4"},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    encoded = ENCODER.encode(by_rows(GOLDEN_FIELDS, [GOLDEN_AD]))
    assert run.stdout.strip() == f"{ENCODER.flat_rows(encoded)[0].tolist()} {encoded.keys.tolist()}"


def _of_features(*own: dict[str, object]) -> Encoder:
    user = {"name": "user", "path": "user.id", "side": "user", "kind": "categorical", "buckets": 97, "deep": True}
    return Encoder(FeatureSpec.model_validate({"name": "few", "embedding_dim": 4, "features": [user, *own]}))


@pytest.mark.parametrize(
    "own", [[], [{"name": "bid", "path": "bid", "side": "candidate", "kind": "numeric", "deep": True}]]
)
def test_columns_without_a_hashed_feature(own: list[dict[str, object]]) -> None:
    """An internal error answered such requests: no value was packed, so no row was found."""
    sent: list[Document] = [{"ad_id": "a", "bid": 1.5}, {"ad_id": "b", "bid": None}, {"ad_id": "c", "bid": -2}]
    encoder = _of_features(*own)
    assert same(encoder.encode(by_columns({}, sent)), encoder.encode(by_rows({}, sent)))


def test_texts_that_collide_under_a_known_seed_have_their_own_rows_in_columns() -> None:
    """A sender who knows the seed of XXH3 can move one bit from one lane to another."""
    start, middle, end = "x" * 252, "x" * 56, "x" * 180
    one, other = (
        start + first + middle + second + end for first, second in ((" @@@bbbb", "mcvscbbb"), (" @@@cbbb", "mcvsbbbb"))
    )
    pack = msgspec.msgpack.Encoder().encode
    assert xxhash.xxh3_128_digest(pack((one,)), 1) == xxhash.xxh3_128_digest(pack((other,)), 1)
    text: dict[str, object] = {
        "name": "text",
        "path": "text",
        "side": "candidate",
        "kind": "categorical",
        "buckets": 10**6,
    }
    sent: list[Document] = [{"ad_id": "a", "text": one}, {"ad_id": "b", "text": other}]
    encoder = _of_features(text | {"deep": True})
    encoded = encoder.encode(by_columns({}, sent))
    assert encoded.candidate_ids[0] != encoded.candidate_ids[1]
    assert same(encoded, encoder.encode(by_rows({}, sent)))
