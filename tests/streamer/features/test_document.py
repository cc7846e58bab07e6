"""A document encoded by itself has the bits of the encoding of many."""

from collections import Counter
from copy import copy
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import native
from streamer.features import Encoder, FeatureSpec
from streamer.features.document import DocumentEncoder
from streamer.features.document_native import NativeDocumentEncoder, document_encoder_of
from streamer.features.hashing import TextHasher
from streamer.features.layout import Layout
from streamer.features.side import SideEncoder, SideRows
from streamer.features.side_plan import SidePlan
from streamer.types import BidRequest

compiled = pytest.mark.skipif(native.module is None, reason=f"ctr-streamer-native is {native.state}")
twins = pytest.mark.parametrize("twin", [DocumentEncoder, pytest.param(NativeDocumentEncoder, marks=compiled)])
Twin = type[DocumentEncoder] | type[NativeDocumentEncoder]

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
    st.sampled_from([2**53 + 1, -(2**63), 2**63, 2**64, 10**400, 2.0**63, -(2.0**63), 1e300, -1e300, 5e-324]),
    st.sampled_from(["\ud800", "x\udfff", "é", "x" * 600]),
    st.floats(),
    st.integers(-99, 99).map(lambda half_steps: half_steps / 64),
    st.integers(-(2**70), 2**70),
    st.text(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)


def side_of(features: list[dict[str, Any]], counts: Counter[str] | None = None) -> SideEncoder:
    """The end of the request of a spec with these features and an ad."""
    ad = {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 7, "wide": True}
    spec = FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [ad, *features]})
    counts = Counter() if counts is None else counts
    return SideEncoder(Layout(spec), candidates=False, hasher=TextHasher(), out_of_range=counts)


def assert_same_bits(one: SideRows, whole: SideRows, row: int = 0) -> None:
    """Asserts that `one` has the bits of a row of `whole`."""
    for part, many in zip(list[Any](one), list[Any](whole), strict=True):
        assert part.dtype == many.dtype
        assert part.shape == many[row : row + 1].shape
        assert part.tobytes() == many[row : row + 1].tobytes()


@twins
@settings(max_examples=50)
@given(specs(), st.lists(st.tuples(DOCUMENTS, st.booleans()), min_size=1, max_size=4))
def test_one_document_has_the_bits_of_many(
    twin: Twin, spec: FeatureSpec, documents: list[tuple[dict[str, object], bool]]
) -> None:
    side_counts, counts = Counter[str](), Counter[str]()
    side = SideEncoder(Layout(spec), candidates=False, hasher=TextHasher(), out_of_range=side_counts)
    encoder = twin(side.plan, counts)
    both = documents * 2  # the second time from memoised values
    whole = side.encode_documents([document for document, _ in both], [denied for _, denied in both])
    for i, (document, denied) in enumerate(both):
        assert_same_bits(encoder.encode(document, denied=denied), whole, i)
    assert counts == side_counts


@settings(max_examples=25)
@given(specs(), st.lists(DOCUMENTS, min_size=1, max_size=8), st.sampled_from([0, 1500]))
def test_memoised_values_keep_to_their_bytes(
    spec: FeatureSpec, documents: list[dict[str, object]], max_bytes: int
) -> None:
    side = SideEncoder(Layout(spec), candidates=False, hasher=TextHasher(), out_of_range=Counter())
    encoder = DocumentEncoder(side.plan, Counter(), max_bytes)
    whole = side.encode_documents(documents)
    for i, document in enumerate(documents):
        assert_same_bits(encoder.encode(document, denied=False), whole, i)
        assert encoder.used_bytes <= max(max_bytes, 500)


@twins
@pytest.mark.parametrize(
    "value",
    [
        True, False, 1, 1.0, -0.0, 0, float("nan"), float("inf"), -1e999, 10**400, -(10**400), 2**63 - 1, 2**63,
        2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2.0**63, -(2.0**63), 2.0**64, 1e16, 0.1, 1e-7, "", "\x00", "é",
        "\U0001f600", "\ud800", "x\udfff", "x" * 600, " 1 ", "1_0", "١", "-inf", [], [1], [[["x"]]], [None, "x"],
        [[], True], {}, {"a": 1}, [float("nan"), "", {}, "x", "\ud800", 1, 1.0, True],
    ],
)  # fmt: skip
def test_a_value_of_any_type_has_the_bits_of_many(twin: Twin, value: object) -> None:
    common = {"path": "a.b", "side": "user", "wide": True}
    side_counts, counts = Counter[str](), Counter[str]()
    side = side_of(
        [
            {"name": "text", "kind": "categorical", "buckets": 10**6, **common},
            {"name": "list", "kind": "multi_valued", "buckets": 10**6, "max_values": 3, "default": "x", **common},
            {"name": "row", "kind": "bucketised", "boundaries": [0, 1, 10], "default": 5, **common},
            {"name": "number", "kind": "numeric", "missing_indicator": True, "clip": 1e30, **common},
            {"name": "log", "kind": "numeric", "log": True, "default": 3, **common},
            {"name": "other_log", "kind": "numeric", "log": True, "clip": 1e30, **common, "path": "a[0].b"},
        ],
        side_counts,
    )
    encoder = twin(side.plan, counts)
    for denied in (False, True, False):
        whole = side.encode_documents([{"a": {"b": value}}], [denied])
        assert_same_bits(encoder.encode({"a": {"b": value}}, denied=denied), whole)
    assert counts == side_counts


@twins
@pytest.mark.parametrize("document", [{}, {"a": None}, {"a": [{"b": 1}]}, {"a": {"b": {"c": 2}}}, {"a": 1, "b": "x"}])
def test_a_document_of_another_shape_has_missing_values(twin: Twin, document: dict[str, object]) -> None:
    side = side_of([
        {"name": f"f{i}", "path": path, "side": "context", "kind": "categorical", "buckets": 99, "wide": True}
        for i, path in enumerate(["a", "b", "a.b", "a.b.c", "a[*].b"])
    ])  # fmt: skip
    assert_same_bits(twin(side.plan, Counter()).encode(document, denied=False), side.encode_documents([document]))


@twins
def test_many_joins_have_the_bits_of_few(twin: Twin) -> None:
    lists = [
        {"name": n, "path": n, "side": "user", "kind": "multi_valued", "buckets": 99, "max_values": 8, "wide": True}
        for n in KEYS
    ]
    crosses = [
        {"name": a + b, "kind": "cross", "of": [a, b], "buckets": 1000, "wide": True} for a, b in ("ab", "bc", "ac")
    ]
    document = {"a": ["x"], "b": list(range(9)), "c": [True, None, "y"]}
    side = side_of([*lists, *crosses])
    one = twin(side.plan, Counter()).encode(document, denied=False)
    assert_same_bits(one, side.encode_documents([document]))


def test_without_compiled_code_documents_are_encoded_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = side_of([]).plan
    monkeypatch.setattr(native, "module", None)
    assert isinstance(document_encoder_of(plan, Counter()), DocumentEncoder)


@compiled
def test_with_compiled_code_documents_are_encoded_by_it() -> None:
    assert isinstance(document_encoder_of(side_of([]).plan, Counter()), NativeDocumentEncoder)


@compiled
def test_documents_with_a_kind_that_compiled_code_does_not_know_are_encoded_in_python() -> None:
    plan = _crossed_plan()
    assert isinstance(document_encoder_of(plan, Counter()), NativeDocumentEncoder)
    plan.bucketised.append(object())  # type: ignore[arg-type]
    assert isinstance(document_encoder_of(plan, Counter()), DocumentEncoder)


def _crossed_plan() -> SidePlan:
    common = {"side": "user", "wide": True}
    return side_of([
        {"name": "t", "path": "t", "kind": "categorical", "buckets": 9, **common},
        {"name": "v", "path": "v", "kind": "categorical", "vocabulary": ["x"], **common},
        {"name": "l", "path": "l", "kind": "multi_valued", "buckets": 9, "max_values": 2, **common},
        {"name": "b", "path": "b", "kind": "bucketised", "boundaries": [0], **common},
        {"name": "n", "path": "n", "kind": "numeric", "log": True, "missing_indicator": True, **common},
        {"name": "x", "kind": "cross", "of": ["t", "l"], "buckets": 9, "wide": True},
    ]).plan  # fmt: skip


@compiled
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("hash_width", 6), ("defaults", []), ("id_width", 1), ("indicators", [1]), ("hashed", [(0, 5, 0, 9)]),
        ("hashed", [(0, 0, 0, 0)]), ("vocabularies", [(0, 5, 0, {})]), ("buckets", [(0, 1, 0)]),
        ("crosses", [(99, 0, 9)]), ("crosses", [(0, 0, 0)]), ("folds", []), ("folds", [(), ()]),
        ("folds", [(0, 5), (0, 1)]), ("numeric", []), ("salts", np.zeros((2, 6), dtype=np.uint64)),
        ("salts", np.zeros(21, dtype=np.uint64)),
    ],
)  # fmt: skip
def test_compiled_code_rejects_a_plan_with_a_column_outside(attribute: str, value: object) -> None:
    plan = copy(_crossed_plan())
    NativeDocumentEncoder(plan, Counter())
    assert hasattr(plan, attribute)
    setattr(plan, attribute, value)
    with pytest.raises(ValueError, match=r"expected|outside"):
        NativeDocumentEncoder(plan, Counter())


@compiled
@pytest.mark.parametrize("part", ["ids", "floats", "words"])
def test_compiled_code_rejects_a_row_of_another_length(part: str) -> None:
    assert native.module is not None
    plan = _crossed_plan()
    encoder = NativeDocumentEncoder(plan, Counter())
    setattr(encoder, f"_{part}", getattr(encoder, f"_{part}") + 1)
    with pytest.raises(ValueError, match="another length"):
        encoder.encode({}, denied=False)


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
