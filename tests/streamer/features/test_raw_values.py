"""Raw features: the values that a model of another project reads by itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.model_server.lean_tensorflow import lean_tensorflow
from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec
from streamer.features.examples import example, varint
from streamer.features.vocabulary_files import read_words
from streamer.types import BidRequest, EncodedRequest
from tests.streamer.specs import documents

with lean_tensorflow():
    from tensorflow.core.example.example_pb2 import Example

CONSENT = {"denied_by": [{"path": "no", "values": [True]}]}


def raw(kind: str, name: str = "x", side: str = "candidate", **values: Any) -> dict[str, object]:
    return {"name": name, "path": name, "side": side, "kind": kind, **values}


def number(name: str = "x", side: str = "candidate", **values: object) -> dict[str, object]:
    return {"name": name, "path": name, "side": side, "kind": "numeric", "deep": True, **values}


def encoder(*features: dict[str, object], inputs: dict[str, object] | None = None, **options: Any) -> Encoder:
    names = [str(feature["name"]) for feature in features]
    content = {
        "name": "s",
        "embedding_dim": 1,
        "consent": CONSENT,
        "features": features,
        "serving": {"output": "p", "inputs": {name: [name] for name in names} if inputs is None else inputs},
    }
    return Encoder(FeatureSpec.from_mapping(content), **options)


def encoded(of: Encoder, *candidates: dict[str, object], **document: object) -> EncodedRequest:
    rows = [json.dumps({"ad_id": "a", **candidate}).encode() for candidate in candidates]
    return of.encode(BidRequest("r", document, len(rows), rows=rows))


def texts(feature: dict[str, object], *values: object) -> list[list[bytes]]:
    found = encoded(encoder(feature), *({} if value is ... else {"x": value} for value in values)).candidate_texts
    assert found is not None
    result: list[list[bytes]] = found.tolist()
    return result


def numbers(feature: dict[str, object], *values: object) -> list[list[int]]:
    of = encoder(feature)
    found = encoded(of, *({} if value is ... else {"x": value} for value in values)).candidate_numbers
    assert found is not None
    high, rests = np.hsplit(found, 2)
    return [
        [int(a) + int(b) for a, b in zip(*row, strict=True)] for row in zip(high.tolist(), rests.tolist(), strict=True)
    ]


def test_a_text_is_that_of_the_request() -> None:
    assert texts(raw("text"), "Ü\0", 18, 18.0, 0.5, True, "", None, ..., ["a"], ["a", "b"], {}) == [
        ["Ü\0".encode()], [b"18"], [b"18"], [b"0.5"], [b"true"], [b""], [b""], [b""], [b"a"], [b""], [b""],
    ]  # fmt: skip
    assert texts(raw("text", default="?"), "a", None) == [[b"a"], [b"?"]]


def test_a_list_of_texts_is_padded_by_the_default() -> None:
    values: tuple[object, ...] = (["a", "", "b", "c", "d"], ["a"], "a", [], None)
    assert texts(raw("text", max_values=3), *values) == [
        [b"a", b"b", b"c"], [b"a", b"", b""], [b"a", b"", b""], [b"", b"", b""], [b"", b"", b""]
    ]  # fmt: skip
    assert texts(raw("text", max_values=2, default="-"), ["a"]) == [[b"a", b"-"]]


def test_an_integer_passes_through_exactly_or_is_missing() -> None:
    values = (5, "5", 5.0, -(2**63), 2**63 - 1, 2**53 + 1, "9007199254740993", 5.5, "x", None, 2**63, 1e300)
    expected = [5, 5, 5, -(2**63), 2**63 - 1, 2**53 + 1, 2**53 + 1, -7, -7, -7, -7, -7]
    assert numbers(raw("integer", default=-7), *values) == [[value] for value in expected]
    assert numbers(raw("integer", min=1, max=9), 0, 1, 9, 10) == [[0], [1], [9], [0]]
    assert numbers(raw("integer", max_values=3, default=-1), [4, "x", 6], 4) == [[4, 6, -1], [4, -1, -1]]


def test_an_integer_out_of_its_bounds_is_counted_each_time() -> None:
    of = encoder(raw("integer", max=9, side="user"), raw("integer", name="y"))
    for _ in range(2):
        encoded(of, {"y": 1}, x=10)
    assert of.out_of_range == {"x": 2}


# Of "a", "b", 18 and the missing value, from keras.layers.Hashing and tf.strings.to_hash_bucket_fast and _strong.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_bins": 100}, [39, 22, 36, 63]),
        ({"num_bins": 100, "mask_value": ""}, [31, 20, 95, 0]),
        ({"num_bins": 100, "salt": 7}, [66, 33, 53, 58]),
        ({"num_bins": 100, "salt": [1, 2], "mask_value": "b", "default": "a"}, [72, 0, 85, 72]),
        ({"num_bins": 1, "mask_value": "a"}, [0, 0, 0, 0]),
        ({"num_bins": 1099511627776}, [436859794915, 143324147990, 909204849920, 254201053263]),
        ({"num_bins": 1099511627776, "salt": [3, 4]}, [1092705234840, 1043712535906, 205214406849, 327622078874]),
    ],
)
def test_hashing_has_the_buckets_of_keras(options: dict[str, Any], expected: list[int]) -> None:
    assert numbers(raw("hashing", **options), "a", "b", 18, None) == [[value] for value in expected]


WORDS = ["b", "a", "18"]


# Of "a", "b", 18, "other", "unknown" and the missing value "", from Keras's layers and tf.lookup's tables.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_oov_indices": 1}, [2, 1, 3, 0, 0, 0]),
        ({"num_oov_indices": 1, "mask_token": ""}, [3, 2, 4, 1, 1, 0]),
        ({"num_oov_indices": 5, "mask_token": ""}, [7, 6, 8, 2, 1, 0]),
        ({"num_oov_indices": 5}, [6, 5, 7, 1, 0, 3]),
        ({"num_oov_indices": 5, "salt": 3}, [6, 5, 7, 2, 0, 4]),
        ({"num_oov_buckets": 4}, [1, 0, 2, 5, 6, 6]),
        ({}, [1, 0, 2, -1, -1, -1]),
        ({"default_value": 0, "default": "a"}, [1, 0, 2, 0, 0, 1]),
    ],
)
def test_a_lookup_has_the_numbers_of_keras_and_tensorflow(options: dict[str, Any], expected: list[int]) -> None:
    values = ("a", "b", 18, "other", "unknown", None)
    assert numbers(raw("lookup", vocabulary=WORDS, **options), *values) == [[value] for value in expected]


# Of 7, 5, 6, -3 and the mask 0, from keras.layers.IntegerLookup.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_oov_indices": 1, "mask_token": 0}, [3, 2, 1, 1, 0]),
        ({"num_oov_indices": 3, "mask_token": 0}, [5, 4, 1, 1, 0]),
        ({"num_oov_indices": 3, "default": 0}, [4, 3, 0, 0, 0]),
        ({"num_oov_buckets": 4, "default": 0}, [1, 0, 5, 5, 5]),
    ],
)
def test_a_lookup_of_integers_has_the_numbers_of_keras(options: dict[str, Any], expected: list[int]) -> None:
    feature = raw("lookup", vocabulary=[5, 7], dtype="int64", **options)
    assert numbers(feature, 7, "5", 6.0, -3, "no number") == [[value] for value in expected]


# Examples


def entries(data: bytes) -> dict[str, list[object]]:
    message = Example.FromString(data)
    found = {}
    for name, feature in message.features.feature.items():
        found[name] = list(getattr(feature, feature.WhichOneof("kind")).value)
    return found


def examples(of: Encoder, *candidates: dict[str, object], **document: object) -> list[dict[str, list[object]]]:
    request = encoded(of, *candidates, **document)
    assert request.request_texts is not None
    assert request.candidate_texts is not None
    start: bytes = request.request_texts[0, -1]
    return [entries(example(start, part)) for part in request.candidate_texts[:, -1].tolist()]


ALL = (
    raw("text", "t", side="user"),
    raw("text", "ts", max_values=2),
    raw("text", "padded", max_values=2, default=""),
    raw("integer", "i", side="context", default=-1),
    raw("integer", "is", max_values=3),
    raw("hashing", "h", num_bins=7),
    raw("lookup", "l", vocabulary=["a"], num_oov_indices=1),
    number("n", side="user"),
    number("m", default=2.5),
)
AS_EXAMPLE: dict[str, object] = {"e": {"example": {f"in_{f['name']}": f["name"] for f in ALL}}}


def test_an_example_has_the_values_of_user_and_candidate() -> None:
    full = {"ts": ["a", "b", "c"], "padded": ["a"], "is": [2**62, -5], "h": "x", "l": "a", "m": 0.1}
    both = examples(encoder(*ALL, inputs=AS_EXAMPLE), full, {}, t="Ü", i=7, n="3.5")
    bucket = both[0].pop("in_h")
    assert isinstance(bucket[0], int)
    assert both[0] == {
        "in_t": ["Ü".encode()], "in_ts": [b"a", b"b"], "in_padded": [b"a", b""], "in_i": [7], "in_is": [2**62, -5],
        "in_l": [1], "in_n": [3.5], "in_m": [float(np.float32(0.1))],
    }  # fmt: skip
    # Without a default, an absent value is absent from the Example.
    assert both[1] == {"in_t": ["Ü".encode()], "in_padded": [b"", b""], "in_i": [7], "in_n": [3.5], "in_m": [2.5]}
    assert examples(encoder(*ALL, inputs=AS_EXAMPLE), {}) == [{"in_padded": [b"", b""], "in_i": [-1], "in_m": [2.5]}]


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_varint_is_that_of_protocol_buffers(value: int) -> None:
    data = varint(value)
    assert sum((byte & 127) << 7 * i for i, byte in enumerate(data)) == value % 2**64
    assert all(byte > 127 for byte in data[:-1])
    assert data[-1] <= 127


@given(size=st.sampled_from([0, 1, 100, 4090, 4096, 20_000]), value=documents)
@settings(max_examples=50)
def test_an_example_of_any_values_can_be_parsed(size: int, value: object) -> None:
    candidate = {str(f["name"]): value for f in ALL} | {"ts": ["x" * size]}
    (found,) = examples(encoder(*ALL, inputs=AS_EXAMPLE), candidate, t=value, i=value)
    assert found.get("in_ts", []) == [b"x" * size] * (size > 0)


def test_a_float_that_an_example_cannot_hold_is_missing_and_counted() -> None:
    of = encoder(*ALL, inputs=AS_EXAMPLE)
    (found,) = examples(of, {"m": 1e39}, n=-1e39)
    assert found["in_m"] == [2.5]
    assert "in_n" not in found
    assert of.out_of_range == {"m": 1, "n": 1}


# Keys, consent, memory

VALUES = (["a"], ["a", ""], ["b"], ["a", "a"], ["a", "b"], ["b", "a"], ["aa"], [1], ["x"], None, 5, 6, 2**53 + 1, 2**53)


@pytest.mark.parametrize("inputs", [None, AS_EXAMPLE], ids=["dense", "example"])
@pytest.mark.parametrize("name", [str(f["name"]) for f in ALL])
def test_requests_that_differ_for_the_model_have_different_keys(inputs: dict[str, object] | None, name: str) -> None:
    of = encoder(*ALL, inputs=inputs)
    seen: dict[bytes, object] = {}
    for value in VALUES:
        request = encoded(of, {name: value}, **{name: value})
        arrays = (request.request_texts, request.candidate_texts, request.request_numbers, request.candidate_numbers)
        shown = [None if array is None else array.tolist() for array in arrays]
        assert seen.setdefault(request.keys.tobytes(), shown) == shown
    assert len(seen) > 1


@pytest.mark.parametrize("inputs", [None, AS_EXAMPLE], ids=["dense", "example"])
def test_denied_consent_hides_raw_values_of_the_user(inputs: dict[str, object] | None) -> None:
    features = [{**feature, "side": "user"} for feature in ALL]
    of = encoder(*features, inputs=inputs)
    values = {str(f["name"]): "a" if f["kind"] in {"text", "lookup", "hashing"} else 5 for f in features}
    denied, nothing = encoded(of, {}, no=True, **values), encoded(of, {})
    assert denied.keys.tolist() == nothing.keys.tolist()
    for name in ("request_texts", "request_numbers", "candidate_texts", "candidate_numbers"):
        assert getattr(denied, name).tolist() == getattr(nothing, name).tolist()


def test_rows_and_columns_give_the_same_values() -> None:
    values: dict[str, list[object]] = {
        "ts": [["a"], None], "padded": ["x", ["y", "z"]], "is": [[1], 2], "h": ["a", 1], "l": ["a", "b"],
        "m": [1, None],
    }  # fmt: skip
    of = encoder(*ALL, inputs=AS_EXAMPLE)
    rows = encoded(of, *({name: column[i] for name, column in values.items()} for i in range(2)), t="u")
    columns = of.encode(BidRequest("r", {"t": "u"}, 2, columns={"ad_id": ["a", "a"], **values}))
    assert rows.keys.tolist() == columns.keys.tolist()
    assert rows.candidate_texts is not None
    assert columns.candidate_texts is not None
    assert rows.candidate_texts.tolist() == columns.candidate_texts.tolist()


def test_memoised_candidates_keep_their_texts_within_the_bound() -> None:
    of = encoder(*ALL, inputs=AS_EXAMPLE, memoised_ads=20, memo_bytes=20_000)
    for i in range(200):
        (found,) = examples(of, {"ts": [f"{i % 30}" * (i % 7 + 1) * 50]})
        assert found["in_ts"] == [(f"{i % 30}" * (i % 7 + 1) * 50).encode()]
        assert of._memo.used_bytes <= 20_000  # noqa: SLF001  the bound is its own


# Specs


def file(folder: Path, content: bytes) -> Path:
    (folder / "words.txt").write_bytes(content)
    spec = folder / "spec.yaml"
    feature = raw("lookup", num_oov_indices=1, vocabulary_file="words.txt")
    content_of_spec = {
        "name": "s",
        "embedding_dim": 1,
        "features": [feature],
        "serving": {"output": "p", "inputs": {"x": ["x"]}},
    }
    spec.write_text(json.dumps(content_of_spec))
    return spec


def test_a_vocabulary_file_is_relative_to_the_spec_and_part_of_its_hash(tmp_path: Path) -> None:
    spec = FeatureSpec.from_yaml(file(tmp_path, b"a\r\n\nb\xc3\xbc\n"))
    feature = spec.features[0]
    assert feature.kind == "lookup"
    assert feature.vocabulary == ("a", "", "bü")
    assert FeatureSpec.from_json(spec.to_json()) == spec
    assert FeatureSpec.from_yaml(file(tmp_path, b"a\nb")).hash != spec.hash


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", "words.txt: line 3: 'a' is line 1 already"),
        (b"a\n\xff\n", "words.txt: line 2: not UTF-8"),
        (b"", "words.txt: 0 lines, expected 1 to 1000000"),
        (b"x\n" * 1_000_001, "words.txt: 1000001 lines, expected 1 to 1000000"),
    ],
)
def test_a_wrong_vocabulary_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        FeatureSpec.from_yaml(file(tmp_path, content))
    assert str(caught.value) == f"{tmp_path}/spec.yaml: feature 'x'.vocabulary_file: {tmp_path}/{message}"


def test_a_vocabulary_file_that_is_absent_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none: cannot be read: No such file"):
        read_words(tmp_path / "none")
    (tmp_path / "large").write_bytes(bytes(32 * 2**20 + 1))
    with pytest.raises(SpecError, match="large: more than 33554432 bytes"):
        read_words(tmp_path / "large")


@pytest.mark.parametrize(
    ("features", "inputs", "message"),
    [
        ([raw("text")], {"e": {"example": {"a": "y"}}}, "feature 'x' is in no input of `serving`"),
        ([number(missing_indicator=True)], None, "feature 'x': a model of another project has no input"),
        ([number()], {"e": {"example": {"a": "y"}}}, "inputs.e.example.a: no wide or deep feature is called 'y'"),
        ([raw("categorical", buckets=3, deep=True)], {"e": {"example": {"a": "x"}}}, "'x' is categorical; an Example"),
        ([raw("lookup", vocabulary=["a", "a"])], None, "vocabulary: a word occurs twice"),
        ([raw("lookup", vocabulary=["a"], dtype="int64", default=1)], None, "vocabulary: 'a' is no integer"),
        ([raw("lookup", vocabulary=[1], dtype="int64", num_oov_indices=1)], None, "default: with dtype int64"),
        ([raw("lookup", vocabulary=["a"], mask_token="")], None, "give num_oov_indices too"),
        ([raw("lookup", vocabulary=["a"], default_value=2**63)], None, "default_value: Input should be less"),
        ([raw("lookup", vocabulary=["a"], num_oov_buckets=2**63)], None, "num_oov_buckets: Input should be less"),
        ([raw("lookup", vocabulary=["a"], num_oov_indices=2**63)], None, "num_oov_indices: Input should be less"),
        ([raw("lookup", vocabulary=["[UNK]", "a"], num_oov_indices=1)], None, "it has Keras's special tokens"),
        ([raw("lookup", vocabulary=["", "[UNK]", "a"], num_oov_indices=1, mask_token="")], None, "special tokens"),
        ([raw("lookup", vocabulary=[-1, 5], num_oov_indices=1, dtype="int64", default=0)], None, "special tokens"),
        # YAML reads the words yes and no as booleans.
        ([raw("lookup", vocabulary=["maybe", True])], None, ".vocabulary.1: Input should be a valid string (got True)"),
        ([raw("lookup", vocabulary=["maybe", None])], None, ".vocabulary.1: Input should be a valid string (got None)"),
        ([raw("text", default=False)], None, ".default: Input should be a valid string (got False)"),
        ([raw("integer", min=3, max=2)], None, "min: 3 is above max, 2"),
        ([raw("hashing", num_bins=0)], None, "num_bins: Input should be greater"),
        ([raw("text"), {"name": "c", "kind": "cross", "of": ["x", "x"], "buckets": 2, "deep": True}], None, "a parent"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_explained(
    features: list[dict[str, object]], inputs: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        encoder(*features, inputs=inputs)
    assert message in str(caught.value)


def test_specs_of_one_hash_have_one_encoded_form_whatever_the_order_of_their_inputs() -> None:
    inputs: list[tuple[str, object]] = [("e", {"example": {"a": "x"}}), ("f", {"example": {"b": "x"}})]
    one, other = (encoder(raw("text"), inputs=dict(order)) for order in (inputs, inputs[::-1]))
    assert one.spec.hash == other.spec.hash
    (first, second) = (encoded(each, {"x": "v"}).candidate_texts for each in (one, other))
    assert np.array_equal(first, second)  # type: ignore[arg-type]


def test_raw_features_need_a_model_of_another_project() -> None:
    with pytest.raises(SpecError, match="kind text is only for the inputs of a `serving`"):
        FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": [raw("text")]})


@pytest.mark.parametrize("feature", [raw("text"), number()], ids=["raw", "numeric"])
def test_the_names_in_an_example_are_part_of_the_hash(feature: dict[str, object]) -> None:
    one, other = (encoder(feature, inputs={"e": {"example": {name: "x"}}}).spec.hash for name in ("a", "b"))
    assert one != other
