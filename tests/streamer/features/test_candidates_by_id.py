"""A request by ad id has the encoding of the same request with all fields in it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import InvalidRequestError
from streamer.features import Cross, Encoder, FeatureSpec
from streamer.features.paths import nested
from streamer.testing.ad_table import FakeAds
from streamer.types import BidRequest, EncodedRequest
from tests.streamer.features.test_encoder import Document, by_columns, by_rows, same
from tests.streamer.specs import candidates, requests, scalars, small_spec, values

_FORMS = (by_rows, by_columns)
_IDS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4)
_OWN = st.sampled_from(["user", "context", "candidate"])
_PATHS = {"user": "user.{}", "context": "{}", "candidate": "{}"}


def _table(encoder: Encoder, ads: Mapping[str, Mapping[str, Any]]) -> FakeAds:
    table = FakeAds(encoder.row_form())
    table.put(ads)
    return table


def _same(found: EncodedRequest, expected: EncodedRequest) -> bool:
    return same(found, expected) and np.array_equal(found.ad_keys, expected.ad_keys)


@st.composite
def _specs(draw: st.DrawFn) -> FeatureSpec:
    """Specs in which each feature has a value of its own, at some depth."""
    features: list[dict[str, Any]] = []
    for i in range(draw(st.integers(1, 7))):
        side = draw(_OWN) if i else "candidate"
        path = _PATHS[side].format(draw(st.sampled_from(["f{}", "in.f{}", "in.deep.f{}"])).format(i))
        own: dict[str, Any] = {"name": f"f{i}", "path": path, "side": side, "deep": True}
        kind = draw(st.sampled_from(["categorical", "vocabulary", "multi_valued", "bucketised", "numeric"]))
        default = draw(st.sampled_from([{}, {"default": "1"}]))
        number = draw(st.sampled_from([{}, {"default": 1.0}]))
        if kind == "categorical":
            own |= {"kind": kind, "buckets": 13, **default}
        elif kind == "vocabulary":
            own |= {"kind": "categorical", "vocabulary": ["1", "f", "s"], **default}
        elif kind == "multi_valued":
            own |= {"kind": kind, "buckets": 11, "max_values": draw(st.integers(1, 3)), **default}
        elif kind == "bucketised":
            own |= {"kind": kind, "boundaries": [-1, 0.5, 30], **number}
        else:
            own |= {"kind": kind, "log": draw(st.booleans()), "missing_indicator": draw(st.booleans()), **number}
        features.append(own)
    hashed = [f["name"] for f in features if f["kind"] != "numeric"]
    for i in range(draw(st.integers(0, 4)) if len(hashed) > 1 else 0):
        parents = draw(st.lists(st.sampled_from(hashed), min_size=2, max_size=3, unique=True))
        features.append({"name": f"c{i}", "kind": "cross", "of": parents, "buckets": 17, "wide": True})
    if draw(st.booleans()):
        features.append(
            {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 19, "deep": True}
        )
    return FeatureSpec.from_mapping({"name": "random", "embedding_dim": 2, "features": features})


def _document(paths: Mapping[str, object]) -> Document:
    whole: Document = {}
    for path, value in paths.items():
        at: Any = whole
        *outer, last = path.split(".")
        for key in outer:
            at = at.setdefault(key, {})
        at[last] = value
    return whole


def _is_given(value: object) -> bool:
    return value is not None and value not in ("", [])


@settings(max_examples=25, deadline=None)
@given(data=st.data(), spec=_specs(), form=st.sampled_from(_FORMS))
def test_values_of_the_request_replace_those_of_the_table(data: st.DataObject, spec: FeatureSpec, form: Any) -> None:
    scalar = [f for f in spec.features if not isinstance(f, Cross)]
    paths = [f.path for f in scalar if f.side == "candidate" and f.path != "ad_id"]
    some = st.dictionaries(st.sampled_from(paths), st.one_of(values, st.sampled_from([0, 0.3, 40, "1", "s"])))
    stored = data.draw(st.dictionaries(st.sampled_from("abcd"), some, min_size=3))
    ids, fields = data.draw(_IDS), data.draw(requests)
    own = [data.draw(st.one_of(st.just({}), some)) for _ in ids]
    encoder = Encoder(spec)
    table = _table(encoder, {ad: {"ad_id": ad, **_document(of)} for ad, of in stored.items()})
    merged = [
        {**stored.get(ad, {}), **{path: value for path, value in given.items() if _is_given(value)}}
        for ad, given in zip(ids, own, strict=True)
    ]

    def request(of: Sequence[Mapping[str, object]]) -> BidRequest:
        return by_rows(fields, [{"ad_id": ad, **_document(one)} for ad, one in zip(ids, of, strict=True)])

    by_id = encoder.with_ads(table)
    asked = request(own)
    if form is by_columns:
        columns = {path: [of.get(path) for of in own] for path in dict.fromkeys(p for of in own for p in of)}
        asked = BidRequest("r", fields, len(ids), columns={"ad_id": ids, **_document(columns)})
    found = by_id.encode(asked)
    assert _same(found, encoder.encode(request(merged)))
    assert _same(by_id.encode(asked), found), "the candidates are memoised"
    unknown = [ad not in stored for ad in ids]
    assert (found.unknown is None) == (not any(unknown))
    assert found.unknown is None or found.unknown.tolist() == unknown
    assert found.position == table.position


_EACH_KIND: dict[str, tuple[dict[str, object], object, object]] = {
    "text": ({"kind": "categorical", "buckets": 97}, "a", "b"),
    "word": ({"kind": "categorical", "vocabulary": ["s", "m"]}, "s", "m"),
    "list": ({"kind": "multi_valued", "buckets": 97, "max_values": 2}, ["x", "y"], ["z"]),
    "band": ({"kind": "bucketised", "boundaries": [1, 2, 3]}, 0.5, 2.5),
    "price": ({"kind": "numeric", "missing_indicator": True}, 0.5, 2.5),
    "clicks": ({"kind": "numeric", "missing_indicator": True, "log": True}, None, 7),
    "rate": ({"kind": "numeric"}, None, 0.25),
}
"""A feature of each kind, its value of the table and its value of a request."""


@pytest.mark.parametrize("form", _FORMS)
def test_any_features_can_be_given(form: Any) -> None:
    """One candidate for each set of features: those that the request gives."""
    parents = [["text", "word"], ["list", "band"], ["text", "hour"]]
    crosses = [
        {"name": f"c{i}", "kind": "cross", "of": of, "buckets": 101, "wide": True} for i, of in enumerate(parents)
    ]
    own = [{"name": k, "path": k, "side": "candidate", "deep": True, **of} for k, (of, *_) in _EACH_KIND.items()]
    hour = {"name": "hour", "path": "hour", "side": "context", "kind": "categorical", "buckets": 24, "wide": True}
    spec = FeatureSpec.from_mapping({"name": "s", "embedding_dim": 2, "features": [*own, hour, *crosses]})
    encoder = Encoder(spec)
    by_id = encoder.with_ads(_table(encoder, {"a": {key: stored for key, (_, stored, _) in _EACH_KIND.items()}}))
    sets = [{key for i, key in enumerate(_EACH_KIND) if n >> i & 1} for n in range(2 ** len(_EACH_KIND))]
    asked = [{"ad_id": "a", **{key: _EACH_KIND[key][2] for key in keys}} for keys in sets]
    merged = [
        {"ad_id": "a", **{key: values[2 if key in keys else 1] for key, values in _EACH_KIND.items()}} for keys in sets
    ]
    found, expected = by_id.encode(form({"hour": 7}, asked)), encoder.encode(by_rows({"hour": 7}, merged))
    assert _same(found, expected)
    assert len(set(map(tuple, expected.keys.tolist()))) == len(sets), "each value matters"
    for one in range(len(sets)):  # numbers alone, and all features, are cases of their own
        alone = by_id.encode(form({"hour": 7}, asked[one : one + 1]))
        assert np.array_equal(alone.keys, expected.keys[one : one + 1])
        assert np.array_equal(alone.candidate_ids, expected.candidate_ids[one : one + 1])
        assert np.array_equal(alone.candidate_floats, expected.candidate_floats[one : one + 1])


@settings(max_examples=12, deadline=None)
@given(fields=requests, some=st.lists(candidates, min_size=1, max_size=6, unique_by=lambda ad: ad["ad_id"]))
def test_ids_have_the_encoding_of_their_ads(fields: Document, some: list[Document]) -> None:
    encoder = Encoder(small_spec())
    by_id = encoder.with_ads(_table(encoder, {str(ad["ad_id"]): ad for ad in some}))
    ids: list[Document] = [{"ad_id": ad["ad_id"]} for ad in some]
    for form in _FORMS:
        found = by_id.encode(form(fields, ids))
        assert _same(found, encoder.encode(by_rows(fields, some)))
        assert found.unknown is None


@settings(max_examples=12, deadline=None)
@given(fields=requests, some=st.lists(candidates, min_size=1, max_size=6))
def test_an_unknown_ad_has_its_own_values_only(fields: Document, some: list[Document]) -> None:
    encoder = Encoder(small_spec())
    by_id = encoder.with_ads(_table(encoder, {}))
    for form in _FORMS:
        found = by_id.encode(form(fields, some))
        assert _same(found, encoder.encode(by_rows(fields, some)))
        assert found.unknown is not None
        assert found.unknown.all()


@settings(max_examples=25, deadline=None)
@given(data=st.data(), spec=_specs(), memoised=st.sampled_from([1, 100]))
def test_unknown_ads_among_known_ones(data: st.DataObject, spec: FeatureSpec, memoised: int) -> None:
    """Requests with nothing but ids, again and again: unknown ads are memoised, within the bound."""
    encoder = Encoder(spec, memoised_ads=memoised)
    table = _table(encoder, {ad: {"ad_id": ad} for ad in "abc"})
    by_id = encoder.with_ads(table)
    for ids in data.draw(st.lists(st.lists(st.sampled_from([*"abcdef", "\ud801"]), min_size=1), max_size=4)):
        request = by_columns({}, [{"ad_id": ad} for ad in ids])
        found = by_id.encode(request)
        assert _same(found, encoder.encode(request))
        unknown = [ad not in "abc" for ad in ids]
        assert (unknown if found.unknown is None else found.unknown.tolist()) == unknown
        assert found.unknown is not None or not any(unknown)


def test_an_unknown_ad_that_is_stored_has_its_row_from_the_next_request() -> None:
    encoder = Encoder(small_spec())
    table = _table(encoder, {})
    by_id, request = encoder.with_ads(table), by_columns({}, [{"ad_id": "a"}])
    for _ in range(2):
        assert _same(by_id.encode(request), encoder.encode(request))
    ad: Document = {"ad_id": "a", "campaign": "c1"}
    table.put({"a": ad})
    assert _same(by_id.encode(request), encoder.encode(by_rows({}, [ad])))


def test_a_change_of_the_table_holds_from_the_next_request() -> None:
    encoder = Encoder(small_spec())
    table = _table(encoder, {"a": {"ad_id": "a", "campaign": "c1"}})
    by_id, request = encoder.with_ads(table), by_rows({}, [{"ad_id": "a", "bid": 2}])
    for campaign in ("c1", "c2"):
        table.put({"a": {"ad_id": "a", "campaign": campaign}})
        expected = encoder.encode(by_rows({}, [{"ad_id": "a", "campaign": campaign, "bid": 2}]))
        assert _same(by_id.encode(request), expected)
    table.delete("a")
    assert _same(by_id.encode(request), encoder.encode(request))


def test_a_number_beyond_a_float_is_counted_where_it_is_given() -> None:
    encoder = Encoder(small_spec())
    by_id = encoder.with_ads(_table(encoder, {"a": {"ad_id": "a", "bid": 2}}))
    by_id.encode(by_columns({}, [{"ad_id": "a", "bid": None}, {"ad_id": "a", "bid": "1e999"}]))
    assert by_id.out_of_range == {"bid": 1, "band": 1}
    by_id.out_of_range.clear()
    by_id.encode(by_columns({}, [{"ad_id": "a", "bid": None}, {"ad_id": "unknown", "bid": "1e999"}]))
    assert by_id.out_of_range == {"bid": 1, "band": 1}


@pytest.mark.parametrize("nothing", [None, "", [], float("nan")])
def test_a_missing_value_is_that_of_the_table(nothing: object) -> None:
    encoder = Encoder(small_spec())
    ad = {"ad_id": "a", "campaign": "c1", "tags": ["t"], "bid": 2}
    by_id = encoder.with_ads(_table(encoder, {"a": ad}))
    request = BidRequest(
        "r", {}, 1, columns={"ad_id": ["a"], **{key: [nothing] for key in ("campaign", "tags", "bid")}}
    )
    assert _same(by_id.encode(request), encoder.encode(by_rows({}, [ad])))


@pytest.mark.parametrize("path", ["ad_id", "ad.id", "ads[0].id"])
def test_an_ad_id_at_any_path(path: str) -> None:
    feature = {"name": "ad", "path": path, "side": "candidate", "kind": "categorical", "buckets": 19, "deep": True}
    size = {"name": "size", "path": "size", "side": "candidate", "kind": "categorical", "buckets": 19, "deep": True}
    spec = {"name": "s", "embedding_dim": 2, "request": {"ad_id": path}, "features": [feature, size]}
    encoder = Encoder(FeatureSpec.from_mapping(spec))
    known: Any = {**encoder.row_form().document(b"a", b"{}"), "size": "s"}
    by_id = encoder.with_ads(_table(encoder, {"a": known}))
    other: Any = nested(path, "b")
    assert _same(by_id.encode(by_rows({}, [nested(path, "a"), other])), encoder.encode(by_rows({}, [known, other])))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (BidRequest("r", {}, 2, columns={"ad_id": ["a", "b"], "bid": 2}), "candidates.bid"),
        (BidRequest("r", {}, 2, columns={"ad_id": ["a", "b"], "bid": [2]}), "candidates.bid"),
        (BidRequest("r", {}, 2, columns={"ad_id": ["a", "b"], "banner": {"size": {"a": 2}}}), "candidates.banner.size"),
        (BidRequest("r", {}, 2, columns={"ad_id": ["a", {"ad_id": "b"}]}), "candidates[1].ad_id"),
        (BidRequest("r", {}, 2, columns={"ad_id": ["a", ""]}), "candidates[1].ad_id"),
        (BidRequest("r", {}, 2, rows=[b'{"ad_id": "a"}', b'"b"']), "candidates[1]"),
        (BidRequest("r", {}, 2, rows=[b'{"ad_id": "a"}', b'{"bid": 2}']), "candidates[1].ad_id"),
    ],
)
def test_mixed_forms_are_rejected_by_the_field(request_: BidRequest, field: str) -> None:
    encoder = Encoder(small_spec())
    with pytest.raises(InvalidRequestError) as error:
        encoder.with_ads(_table(encoder, {})).encode(request_)
    assert error.value.field == field


@settings(max_examples=30, deadline=None)
@given(value=scalars)
def test_candidates_in_rows_are_memoised_by_their_bytes(value: object) -> None:
    encoder = Encoder(small_spec())
    by_id = encoder.with_ads(_table(encoder, {}))
    request = by_rows({}, [{"ad_id": "a", "campaign": value}, {"ad_id": "b"}])
    assert request.rows is not None
    assert len(by_id.new(request.rows)) == 2
    by_id.encode(request)
    assert not by_id.new(request.rows)
    assert by_id.new([*request.rows, b'{"ad_id": "c"}']) == [b'{"ad_id": "c"}']
    assert encoder.new(request.rows), "an encoder without the table has other rows"
    assert _same(by_id.encode(replace(request, fields={})), encoder.encode(request))
