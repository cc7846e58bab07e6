"""The inputs for the flat signature of a foreign model."""

import json
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.deadline import Deadline
from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec
from streamer.scoring.batching import BatchQueue, Ticket
from streamer.serving.flat_signature import FlatSignature
from streamer.serving.messages import predict_request
from streamer.serving.splitting import halves, pieces
from streamer.settings.sections import BatchingSettings
from streamer.types import BatchInputs, BidRequest, EncodedRequest, ModelVersion, SignatureInfo, TensorInfo
from tests.streamer.specs import documents

FEATURES: list[dict[str, object]] = [
    {"name": "sex", "path": "user.sex", "side": "user", "kind": "categorical", "vocabulary": ["f", "m"], "deep": True},
    {"name": "likes", "path": "user.likes", "side": "user", "kind": "multi_valued", "buckets": 9, "max_values": 3,
     "deep": True},
    {"name": "hour", "path": "context.hour", "side": "context", "kind": "numeric", "mean": 12, "std": 7, "wide": True},
    {"name": "age", "path": "user.age", "side": "user", "kind": "bucketised", "boundaries": [18, 65], "deep": True},
    {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "vocabulary": ["a", "b"], "wide": True},
    {"name": "bid", "path": "bid", "side": "candidate", "kind": "numeric", "log": True, "std": 2, "deep": True},
    {"name": "likes_x_ad", "kind": "cross", "of": ["likes", "ad"], "buckets": 20, "deep": True},
]  # fmt: skip
INPUTS = {
    "person": ["sex", "age"],
    "likes": ["likes"],
    "ad": ["ad"],
    "numbers": ["hour", "bid"],
    "crossed": ["likes_x_ad"],
}
FOUND = SignatureInfo(
    {
        "person": TensorInfo("int64", (-1, 2)),
        "likes": TensorInfo("int32", (-1, -1)),
        "ad": TensorInfo("int64", (-1,)),
        "numbers": TensorInfo("float32", (-1, 2)),
        "crossed": TensorInfo("int32", (-1, 3)),
    },
    {"probability": TensorInfo("float32", (-1, 1))},
)


def spec(**serving: object) -> FeatureSpec:
    content = {"output": "probability", "inputs": INPUTS, **serving}
    return FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": FEATURES, "serving": content})


def signature(found: SignatureInfo = FOUND, **serving: object) -> FlatSignature:
    encoder = Encoder(spec(**serving))
    assert encoder.spec.serving is not None
    return FlatSignature(encoder.layout, encoder.spec.serving, found)


def tensors(flat: FlatSignature, batch: BatchInputs) -> dict[str, Any]:
    return dict(flat.tensors(batch))


def with_input(**changed: TensorInfo) -> SignatureInfo:
    return SignatureInfo({**FOUND.inputs, **changed}, FOUND.outputs)


def test_each_input_holds_its_features_in_the_form_of_the_model() -> None:
    user = {"sex": "m", "likes": ["x", "y"], "age": 30}
    rows = [orjson.dumps(c) for c in ({"ad_id": "b", "bid": 3.5}, {"ad_id": "?"}, {"ad_id": "a", "bid": 0.5})]
    request = BidRequest("r", {"user": user, "context": {"hour": 20}}, 3, rows=rows)
    encoded = Encoder(spec()).encode(request)
    found = tensors(signature(), BatchInputs.whole(encoded))
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "person": ("int64", (3, 2)), "likes": ("int32", (3, 3)), "ad": ("int64", (3,)), "numbers": ("float32", (3, 2)),
        "crossed": ("int32", (3, 3)),
    }  # fmt: skip
    assert found["person"].tolist() == [[3, 2]] * 3, "m is the second word, 30 is in the second interval"
    assert found["ad"].tolist() == [3, 1, 2], "b, unknown, a"
    assert found["numbers"].tolist() == [[20, 3.5], [20, 0], [20, 0.5]]
    likes, crossed = found["likes"], found["crossed"]
    assert (likes[:, 2] == 0).all(), "padding"
    assert ((likes[:, :2] >= 1) & (likes[:, :2] <= 9)).all()
    assert (crossed[:, 2] == 0).all()
    assert ((crossed[:, :2] >= 1) & (crossed[:, :2] <= 20)).all()


def test_rows_of_several_requests_have_the_right_users() -> None:
    encoder = Encoder(spec())
    a, b = (encoder.encode(BidRequest("r", {"user": {"sex": sex}}, 1, rows=[b'{"ad_id":"a"}'])) for sex in ("f", "m"))
    both = BatchInputs(
        np.vstack([a.request_ids, b.request_ids]),
        np.vstack([a.request_floats, b.request_floats]),
        np.vstack([a.candidate_ids] * 3),
        np.vstack([a.candidate_floats] * 3),
        np.vstack([a.pair_ids] * 3),
        np.array([1, 0, 1], dtype=np.int32),
        np.vstack([e.request_numbers for e in (a, b) if e.request_numbers is not None]),
        np.vstack([e.candidate_numbers for e in (a, b, a) if e.candidate_numbers is not None]),
    )
    assert tensors(signature(), both)["person"][:, 0].tolist() == [3, 2, 3]


def test_a_cross_of_one_value_of_a_list_is_counted_from_one() -> None:
    features: list[dict[str, object]] = [
        {"name": "like", "path": "user.likes", "side": "user", "kind": "multi_valued", "buckets": 9, "max_values": 1},
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 50, "wide": True},
        {"name": "ad_x_like", "kind": "cross", "of": ["like", "ad"], "buckets": 2, "deep": True},
    ]
    serving = {"output": "probability", "inputs": {"crossed": ["ad_x_like"]}}
    encoder = Encoder(
        FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": features, "serving": serving})
    )
    assert encoder.spec.serving is not None
    found = SignatureInfo({"crossed": TensorInfo("int32", (-1,))}, FOUND.outputs)
    flat = FlatSignature(encoder.layout, encoder.spec.serving, found)
    rows = [orjson.dumps({"ad_id": str(i)}) for i in range(40)]
    crossed = [
        set(tensors(flat, BatchInputs.whole(encoder.encode(BidRequest("r", {"user": user}, 40, rows=rows))))["crossed"])
        for user in ({"likes": ["x"]}, {})
    ]
    assert crossed == [{1, 2}, {0}]


# Numbers


def numeric(name: str, side: str, **changes: object) -> dict[str, object]:
    return {"name": name, "path": name, "side": side, "kind": "numeric", "deep": True, **changes}


class Numbers:
    """A foreign model with the user's number `x` and the candidate's number `y`, each in an input of its own."""

    def __init__(self, dtype: str, **changes: object) -> None:
        content = {
            "name": "s",
            "embedding_dim": 1,
            "features": [numeric("x", "user", **changes), numeric("y", "candidate", **changes)],
            "serving": {"output": "probability", "inputs": {"x": ["x"], "y": ["y"]}},
        }
        self.encoder = Encoder(FeatureSpec.from_mapping(content), memoised_ads=4)
        assert self.encoder.spec.serving is not None
        found = SignatureInfo({n: TensorInfo(dtype, (-1,)) for n in ("x", "y")}, FOUND.outputs)
        self.flat = FlatSignature(self.encoder.layout, self.encoder.spec.serving, found, self.encoder.out_of_range)

    def encode(self, value: object) -> EncodedRequest:
        document = json.dumps({"ad_id": "a", "y": value}).encode()
        fields = msgspec.json.decode(json.dumps({"x": value}).encode())
        return self.encoder.encode(BidRequest("r", fields, 2, rows=[document, b'{"ad_id":"b","y":1}']))

    def of(self, value: object) -> float:
        """The model's number for this value, equal in both inputs."""
        found = tensors(self.flat, BatchInputs.whole(self.encode(value)))
        x, y = found["x"].tolist(), found["y"].tolist()
        assert (x[0], y[1]) == (x[1], 1)
        assert x[0] == y[0]
        number: float = x[0]
        return number


@pytest.mark.parametrize("changes", [{}, {"mean": 12, "std": 7}, {"log": True, "clip": 1.0}, {"std": 1e-6}])
@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**24), 2**24))
@example(value=18)
@example(value=3e9)
@example(value=-1.0)
@settings(max_examples=25)
def test_a_float_input_has_the_number_of_the_request(changes: dict[str, object], value: float) -> None:
    for form in (value, str(value), [value]):
        assert Numbers("float32", **changes).of(form) == value


@given(value=st.integers(-(2**63), 2**63 - 1) | st.integers(2**53, 2**53 + 99))
@example(value=2**63 - 1)
@example(value=-(2**63))
@example(value=2**53 + 1)
@settings(max_examples=60)
def test_an_integer_input_has_the_number_of_the_request(value: int) -> None:
    numbers = Numbers("int64", mean=5, std=3)
    for form in (value, str(value), [value]):
        assert numbers.of(form) == value
    assert Numbers("int32").of(value % 2**31 - 2**30) == value % 2**31 - 2**30


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int32", 3e9),
        ("int32", 2**31),
        ("int32", -(2**31) - 1),
        ("int32", "3000000000"),
        ("int32", 2147483647.5),
        ("int64", 2**63),
        ("int64", 2**64 - 1),
        ("int64", 1e19),
        ("int64", -9.3e18),
        ("float32", 1e39),
        ("float32", -1e300),
        ("float32", "1e999"),
        ("int32", "-inf"),
        ("int64", "Infinity"),
    ],
)
def test_a_number_out_of_range_counts_as_missing_and_is_counted(dtype: str, value: object) -> None:
    for changes, missing in (({}, 0), ({"mean": 3}, 3), ({"default": 7}, 7), ({"log": True, "default": 7}, 7)):
        numbers = Numbers(dtype, **changes)
        assert numbers.of(None) == missing
        assert not numbers.encoder.out_of_range
        assert numbers.of(value) == missing
        assert numbers.encoder.out_of_range == {"x": 1, "y": 1}


@given(value=documents)
@settings(max_examples=60)
def test_every_json_value_becomes_a_finite_number(value: object) -> None:
    for dtype in ("int32", "int64", "float32"):
        assert np.isfinite(Numbers(dtype).of(value))


@pytest.mark.parametrize(("value", "number"), [(17, 17), (17.4, 17), (-17.6, -18), ("17.4", 17)])
def test_a_number_for_an_integer_input_is_rounded(value: object, number: int) -> None:
    assert Numbers("int64").of(value) == Numbers("int32").of(value) == number


def test_numbers_that_differ_for_the_model_have_different_keys() -> None:
    for is_log in (False, True):
        numbers = Numbers("int64", log=is_log)
        values = [-7, -3, 0, 5, 3e9, 4e9, 2**53, 2**53 + 1, 2**60, 2**60 + 1]
        keys = [numbers.encode(value).keys[0].tobytes() for value in values]
        assert len(set(keys)) == len(values)
        assert numbers.encode(5).keys.tolist() == numbers.encode("5.0").keys.tolist()


def test_a_batch_keeps_the_numbers_of_each_request() -> None:
    numbers = Numbers("int64")
    queue = BatchQueue(BatchingSettings())
    values = [2**53 + 1, 2**53, 2**53 + 1, 3]
    for value in values:
        queue.add(Ticket(ModelVersion("m", 1), numbers.encode(value), np.arange(2), Deadline(9.0, 0.0), 0.0))
    batch = queue.next_batch(0.0, calls=1)
    assert batch is not None
    inputs = batch.inputs()
    assert len(inputs.request_ids) == 3, "equal rows of users are sent once"
    found = tensors(numbers.flat, inputs)
    assert found["x"].tolist() == [value for value in values for _ in range(2)]
    assert found["y"].tolist() == [number for value in values for number in (value, 1)]
    for rows, half in halves(inputs):
        part = tensors(numbers.flat, half)
        assert part["x"].tolist() == found["x"][rows].tolist()
        assert part["y"].tolist() == found["y"][rows].tolist()


def test_a_default_that_the_input_cannot_hold_is_named() -> None:
    with pytest.raises(SpecError, match=r"serving.inputs.x: 3e\+09, the value of a missing 'x', is no int32"):
        Numbers("int32", default=3e9)


@pytest.mark.parametrize(
    ("found", "serving", "message"),
    [
        (
            with_input(more=TensorInfo("int32", (-1,))),
            {},
            r"inputs.more: absent, but the model takes int32, shape \[-1\]$",
        ),
        (FOUND, {"output": "ctr"}, "serving.output: 'ctr', but the model returns .*probability"),
        (
            with_input(ad=TensorInfo("string", (-1,))),
            {},
            r"inputs.ad: 'ad' is categorical, but the model takes string, shape \[-1\]$",
        ),
        (
            with_input(ad=TensorInfo("float32", (-1,))),
            {},
            "inputs.ad: 'ad' is categorical, but the model takes float32",
        ),
        (with_input(person=TensorInfo("int64", (-1, 3))), {}, r"serving.inputs.person: 2 columns, .* shape \[-1, 3\]"),
        (with_input(person=TensorInfo("int64", (-1,))), {}, r"serving.inputs.person: 2 columns, .* shape \[-1\]"),
        (with_input(person=TensorInfo("int64", (-1, 2, 1))), {}, "serving.inputs.person: 2 columns"),
    ],
)
def test_the_error_names_an_input_that_does_not_fit_the_model(
    found: SignatureInfo, serving: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        signature(found, **serving)


def test_reading_the_spec_names_an_input_of_an_unknown_feature() -> None:
    with pytest.raises(SpecError, match=r"serving.inputs.person: no wide or deep feature is called 'sec'"):
        spec(inputs={"person": ["sec"]})


def test_the_flat_signature_does_not_change_the_spec_hash() -> None:
    assert spec().hash == spec(output="other").hash


# Raw features, Examples, constants, fixed sizes


RAW: list[dict[str, object]] = [
    {"name": "name", "path": "user.name", "side": "user", "kind": "text", "default": "?"},
    {"name": "tags", "path": "tags", "side": "candidate", "kind": "text", "max_values": 2},
    {"name": "item", "path": "item", "side": "candidate", "kind": "integer", "default": -1},
    {"name": "seen", "path": "user.seen", "side": "user", "kind": "integer", "max_values": 2},
    {"name": "age", "path": "user.age", "side": "user", "kind": "numeric", "deep": True},
]


def raw_encoder(**inputs: object) -> Encoder:
    serving = {"output": "p", "inputs": inputs}
    return Encoder(
        FeatureSpec.from_mapping({"name": "s", "embedding_dim": 1, "features": RAW[: 4 + ("age" in str(inputs))],
                                  "serving": serving})
    )  # fmt: skip


def flat_of(
    encoder: Encoder,
    infos: dict[str, TensorInfo],
    output: TensorInfo | None = None,
    defaults: frozenset[str] = frozenset(),
) -> FlatSignature:
    assert encoder.spec.serving is not None
    outputs = {"p": TensorInfo("float32", (-1,)) if output is None else output}
    found = SignatureInfo(infos, outputs, defaults)
    return FlatSignature(encoder.layout, encoder.spec.serving, found, encoder.out_of_range)


LISTS: dict[str, object] = {"name": ["name"], "tags": ["tags"], "ids": ["seen", "item"]}
IN_LISTS = {
    "name": TensorInfo("string", (-1, 1)),
    "tags": TensorInfo("string", (-1, 2)),
    "ids": TensorInfo("int64", (-1, 3)),
}
CANDIDATES = [b'{"ad_id":"a","tags":["x","y"],"item":9007199254740993}', b'{"ad_id":"b","tags":"z"}']


def raw_batch(encoder: Encoder) -> BatchInputs:
    user = {"user": {"name": "Ann", "seen": [7], "age": 30}}
    return BatchInputs.whole(encoder.encode(BidRequest("r", user, 2, rows=CANDIDATES)))


def test_texts_and_integers_are_in_the_inputs() -> None:
    encoder = raw_encoder(**LISTS)
    found = tensors(flat_of(encoder, IN_LISTS), raw_batch(encoder))
    assert found["name"].tolist() == [[b"Ann"], [b"Ann"]]
    assert found["tags"].tolist() == [[b"x", b"y"], [b"z", b""]]
    assert found["ids"].tolist() == [[7, 0, 9007199254740993], [7, 0, -1]]
    assert found["ids"].dtype == np.int64
    narrow = flat_of(encoder, {**IN_LISTS, "ids": TensorInfo("int32", (-1, 3))})
    assert tensors(narrow, raw_batch(encoder))["ids"].tolist() == [[7, 0, -1], [7, 0, -1]]
    assert encoder.out_of_range == {"item": 1}


def test_a_request_is_sent_once_for_equal_texts_only() -> None:
    encoder = raw_encoder(**LISTS)
    flat, queue = flat_of(encoder, IN_LISTS), BatchQueue(BatchingSettings())
    names = ["Ann", "Bob", "Ann"]
    for name in names:
        request = encoder.encode(BidRequest("r", {"user": {"name": name}}, 2, rows=CANDIDATES))
        queue.add(Ticket(ModelVersion("m", 1), request, np.arange(2), Deadline(9.0, 0.0), 0.0))
    batch = queue.next_batch(0.0, calls=1)
    assert batch is not None
    inputs = batch.inputs()
    assert len(inputs.request_ids) == 2
    found = tensors(flat, inputs)
    assert found["name"][:, 0].tolist() == [name.encode() for name in names for _ in range(2)]
    for rows, half in halves(inputs):
        part = tensors(flat, half)
        assert all(part[name].tolist() == found[name][rows].tolist() for name in found)


def test_constants_and_inputs_with_defaults() -> None:
    constants = {"training": {"constant": False}, "rate": {"constant": 0.5}, "mode": {"constant": "eval"},
                 "pair": {"constant": [1, 2]}}  # fmt: skip
    encoder = raw_encoder(**LISTS, **constants)
    infos = {
        **IN_LISTS, "training": TensorInfo("bool", ()), "rate": TensorInfo("float32", (-1, 1)),
        "mode": TensorInfo("string", (1,)), "pair": TensorInfo("int32", (2,)), "more": TensorInfo("int8", None),
    }  # fmt: skip
    found = tensors(flat_of(encoder, infos, defaults=frozenset({"more"})), raw_batch(encoder))
    assert found["training"].dtype == np.bool_
    assert found["training"].tolist() is False
    assert found["rate"].tolist() == [[0.5], [0.5]]
    assert (found["mode"].tolist(), found["pair"].tolist()) == ([b"eval"], [1, 2])
    assert "more" not in found


@pytest.mark.parametrize(
    ("constant", "dims", "expected"),
    [
        (0.5, (-1, -1), [[0.5], [0.5]]),
        ([1, 2, 3], (-1, -1), [[1, 2, 3], [1, 2, 3]]),
        ([1, 2], (-1, -1, 2), [[[1, 2]], [[1, 2]]]),
        ([1], (-1,), [1, 1]),
        ([1, 2], (-1,), None),  # it would fit a batch of two rows only
    ],
)
def test_a_constant_fits_any_number_of_rows(constant: object, dims: tuple[int, ...], expected: object) -> None:
    encoder = raw_encoder(**LISTS, c={"constant": constant})
    infos = {**IN_LISTS, "c": TensorInfo("float64", dims)}
    if expected is None:
        with pytest.raises(SpecError, match=r"serving.inputs.c: the constant \(1, 2\), but the model takes float64"):
            flat_of(encoder, infos)
    else:
        assert tensors(flat_of(encoder, infos), raw_batch(encoder))["c"].tolist() == expected


def test_a_fixed_number_of_rows_is_padded_and_a_larger_batch_is_split() -> None:
    encoder = raw_encoder(**LISTS, rate={"constant": 1.0})
    fixed = {name: TensorInfo(info.dtype, (3, *(info.dims or ())[1:])) for name, info in IN_LISTS.items()}
    flat = flat_of(encoder, {**fixed, "rate": TensorInfo("float64", (-1,))})
    assert flat.output.padded_rows == 3
    found = tensors(flat, raw_batch(encoder))
    assert found["tags"].tolist() == [[b"x", b"y"], [b"z", b""], [b"z", b""]]
    assert found["rate"].tolist() == [1, 1, 1]
    rows = [CANDIDATES[i % 2] for i in range(7)]
    whole = BatchInputs.whole(encoder.encode(BidRequest("r", {}, 7, rows=rows)))
    parts = pieces(whole, ModelVersion("m", 1, flat))
    assert [at.tolist() for at, _ in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    sent = [tensors(flat, part)["ids"].tolist()[: part.rows] for _, part in parts]
    assert [row[2] for rows in sent for row in rows] == [9007199254740993, -1] * 3 + [9007199254740993]
    assert pieces(whole, ModelVersion("m", 1))[0][1] is whole


EXAMPLE: dict[str, object] = {"examples": {"example": {"n": "name", "t": "tags", "i": "item", "s": "seen", "a": "age"}}}


@pytest.mark.parametrize("dims", [(-1,), (-1, 1)])
def test_an_input_of_examples(dims: tuple[int, ...]) -> None:
    encoder = raw_encoder(**EXAMPLE)
    flat = flat_of(encoder, {"examples": TensorInfo("string", dims)})
    found = tensors(flat, raw_batch(encoder))["examples"]
    assert found.shape == (2, *dims[1:])
    request = predict_request(ModelVersion("m", 1), "serving_default", {"examples": found})
    first, second = request.inputs["examples"].string_val
    assert b"Ann" in first
    assert b"Ann" in second
    assert b"x" in first
    assert b"y" not in second


@pytest.mark.parametrize(
    ("inputs", "infos", "message"),
    [
        (LISTS, {**IN_LISTS, "tags": TensorInfo("string", (-1, 3))},
         "serving.inputs.tags: 2 columns, but the model takes string, shape [-1, 3]"),
        (LISTS, {**IN_LISTS, "ids": TensorInfo("string", (-1, 3))},
         "serving.inputs.ids: 'seen' is integer, but the model takes string, shape [-1, 3]"),
        (LISTS, {**IN_LISTS, "name": TensorInfo("int64", (-1,))},
         "serving.inputs.name: 'name' is text, but the model takes int64, shape [-1]"),
        (LISTS, {**IN_LISTS, "name": TensorInfo("string", ())},
         "serving.inputs.name: 1 columns, but the model takes string, shape []"),
        (LISTS, {**IN_LISTS, "name": TensorInfo("string", (5000, 1))},
         "serving.inputs.name: 1 columns, but the model takes string, shape [5000, 1]"),
        (LISTS, {**IN_LISTS, "name": TensorInfo("string", (1, 1)), "tags": TensorInfo("string", (2, 2))},
         "serving.inputs: the model takes different numbers of rows, {'name': 1, 'tags': 2}"),
        (EXAMPLE, {"examples": TensorInfo("int64", (-1,))},
         "serving.inputs.examples: Examples, but the model takes int64, shape [-1]"),
        ({**LISTS, "c": {"constant": 1.5}}, {**IN_LISTS, "c": TensorInfo("int64", ())},
         "serving.inputs.c: the constant 1.5, but the model takes int64, shape []"),
        ({**LISTS, "c": {"constant": 2**31}}, {**IN_LISTS, "c": TensorInfo("int32", ())},
         "serving.inputs.c: the constant 2147483648, but the model takes int32, shape []"),
        ({**LISTS, "c": {"constant": 1e39}}, {**IN_LISTS, "c": TensorInfo("float32", ())},
         "serving.inputs.c: the constant 1e+39, but the model takes float32, shape []"),
        ({**LISTS, "c": {"constant": [1, 2]}}, {**IN_LISTS, "c": TensorInfo("int32", (3,))},
         "serving.inputs.c: the constant (1, 2), but the model takes int32, shape [3]"),
        ({**LISTS, "c": {"constant": 1}}, {**IN_LISTS, "c": TensorInfo("complex64", None)},
         "serving.inputs.c: the constant 1, but the model takes complex64, any shape"),
        ({**LISTS, "c": {"constant": 1}}, IN_LISTS,
         "serving.inputs.c: no such input, but the model takes ids: int64, shape [-1, 3]; name: string, shape [-1, 1]; "
         "tags: string, shape [-1, 2]"),
    ],
)  # fmt: skip
def test_a_mismatch_is_one_line_with_input_dtype_and_shape(
    inputs: dict[str, object], infos: dict[str, TensorInfo], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        flat_of(raw_encoder(**inputs), infos)
    assert str(caught.value) == message


def test_each_mismatch_has_a_line() -> None:
    infos = {"tags": TensorInfo("int64", (-1,)), "new": TensorInfo("string", (-1,)), "name": IN_LISTS["name"]}
    with pytest.raises(SpecError) as caught:
        flat_of(raw_encoder(**LISTS), infos, TensorInfo("int64", (-1, 1)))
    assert str(caught.value).splitlines() == [
        "serving.inputs.ids: no such input, but the model takes name: string, shape [-1, 1]; new: string, shape [-1]; "
        "tags: int64, shape [-1]",
        "serving.inputs.new: absent, but the model takes string, shape [-1]",
        "serving.inputs.tags: 2 columns, but the model takes int64, shape [-1]",
        "serving.output: 'p': the model returns int64, shape [-1, 1]; scores are float32, float64, float16, bfloat16",
    ]
