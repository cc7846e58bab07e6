"""Verification of a version whose spec or signature is damaged: it is rejected, and nothing else is raised."""

import asyncio
import json
import re
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import BadReplyError, PredictError, SpecError
from streamer.features import FeatureSpec
from streamer.prepared_version import PreparedVersion
from streamer.serving.identity import Shown
from streamer.serving.messages import read_signature, read_spec
from streamer.serving.protos import get_model_metadata_pb2, predict_pb2
from streamer.serving.replies import metadata_reply
from streamer.serving.verification import verify
from streamer.serving.warmup import Preparer
from streamer.settings import Settings
from streamer.types import BatchInputs, ModelVersion, SignatureInfo
from tests.streamer.specs import SMALL, small_spec

VERSION = ModelVersion("ctr", 7)
FOREIGN: dict[str, Any] = {
    "name": "foreign", "embedding_dim": 1,
    "features": [
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 9, "deep": True},
        {"name": "bid", "path": "bid", "side": "candidate", "kind": "numeric", "wide": True},
    ],
    "serving": {"inputs": {"ad": ["ad"], "bid": ["bid"]}, "output": "p"},
}  # fmt: skip
SETTINGS = Settings.model_validate({"features": {"memoised_ads": 300}})


@pytest.mark.parametrize("size", [1, 127, 128, 300, 70_000])
def test_a_spec_in_raw_bytes_is_read(size: int) -> None:
    """`--enable_serialization_as_tensor_content` sends the length as a varint, then the string."""
    reply, length = predict_pb2.PredictResponse(), size
    packed = bytearray()
    while length >= 0x80:
        packed.append(length & 0x7F | 0x80)
        length >>= 7
    packed.append(length)
    reply.outputs["spec"].tensor_content = bytes(packed) + b"x" * size
    assert read_spec(reply, VERSION) == "x" * size
    for damaged in (bytes(packed) + b"x" * (size - 1), bytes(packed) + b"x" * (size + 1), b"\xff"):
        reply.outputs["spec"].tensor_content = damaged
        with pytest.raises(BadReplyError, match="returned no string"):
            read_spec(reply, VERSION)


class Replies:
    """Model servers that return these messages, read as from a server."""

    def __init__(self, spec: bytes, signatures: Any) -> None:
        self.spec = predict_pb2.PredictResponse()
        self.spec.outputs["spec"].string_val.append(spec)
        self.signatures = signatures

    async def feature_spec(self, version: ModelVersion) -> str:
        return read_spec(self.spec, version)

    async def signature(self, version: ModelVersion, name: str) -> SignatureInfo:
        return read_signature(self.signatures, version, name)

    async def warm(self, version: ModelVersion, requests: Iterable[BatchInputs]) -> None:
        return None

    async def show(
        self, version: ModelVersion, inputs: BatchInputs, *, has_spec: bool
    ) -> dict[str, Shown | PredictError]:
        raise AssertionError("not a part of the verification")


def metadata(name: str, inputs: dict[str, tuple[int, list[int] | None]], output: str = "p") -> Any:
    """A GetModelMetadata reply: the dtype and the sizes of each input; None for an unknown rank."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    definition = signatures.signature_def[name]
    definition.outputs[output].dtype = 1
    for alias, (dtype, dims) in inputs.items():
        definition.inputs[alias].dtype = dtype
        definition.inputs[alias].tensor_shape.unknown_rank = dims is None
        for size in dims or ():
            definition.inputs[alias].tensor_shape.dim.add().size = size
    reply = get_model_metadata_pb2.GetModelMetadataResponse()
    reply.metadata["signature_def"].Pack(signatures)
    return reply


def verified(spec: bytes, signatures: Any) -> PreparedVersion | Exception:
    """The prepared version, or one of the errors that reject a version; another error is raised."""
    try:
        return asyncio.run(verify(Replies(spec, signatures), SETTINGS, VERSION))
    except (SpecError, PredictError) as error:
        return error


def rejection(spec: object, signatures: Any) -> str:
    found = verified(json.dumps(spec).encode(), signatures)
    assert isinstance(found, Exception)
    return str(found)


@pytest.mark.parametrize("dims", [None, [], [-1, 1, 1], [-1, 2], [0, 1], [2**62]])
def test_a_foreign_input_of_another_shape_is_rejected_by_name(dims: list[int] | None) -> None:
    signatures = metadata("serving_default", {"ad": (9, dims), "bid": (1, [-1])})
    assert re.search(r"ctr/7: serving.inputs.ad: 1 columns, but the model takes", rejection(FOREIGN, signatures))


@pytest.mark.parametrize("dims", [None, [], [-1, -1]])
def test_a_score_signature_of_another_shape_is_rejected_by_name(dims: list[int] | None) -> None:
    inputs = {name: (3, [-1, 1]) for name in ("request_ids", "candidate_ids", "pair_ids")}
    signatures = metadata("score", {**inputs, "row_to_request": (3, dims)}, "ctr")
    assert "ctr/7: its score signature does not fit its feature spec in" in rejection(SMALL, signatures)


def test_signatures_that_cannot_be_decoded_are_a_bad_reply() -> None:
    reply = metadata("score", {})
    reply.metadata["signature_def"].value = b"\xff\xff\xff"
    with pytest.raises(BadReplyError, match="ctr/7: its signatures cannot be decoded"):
        read_signature(reply, VERSION, "score")


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [10**400, -1, 2**63, float("nan"), float("inf"), 1e308, "", "\ud800", "a[99999999999]", "x" * 300]
    )
    | st.integers()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_FEATURES: list[dict[str, Any]] = SMALL["features"]  # type: ignore[assignment]
_PLACES: list[tuple[Any, ...]] = [
    *((key,) for key in SMALL),
    *(("features", i) for i in range(len(_FEATURES))),
    *(("features", i, key) for i, feature in enumerate(_FEATURES) for key in feature),
    ("request",), ("request", "ad_id"), ("serving",), ("serving", "inputs"), ("serving", "output"),
    ("features", 0, "surplus"),
]  # fmt: skip


@st.composite
def _damaged_specs(draw: st.DrawFn) -> bytes:
    """A valid spec with some values replaced, or bytes cut off or inserted."""
    spec: Any = json.loads(json.dumps(draw(st.sampled_from([SMALL, FOREIGN]))))
    for *outer, last in draw(st.lists(st.sampled_from(_PLACES), max_size=2)):
        at: Any = spec
        for step in outer:
            at = at.get(step) if isinstance(at, dict) else at[step] if isinstance(at, list) and step < len(at) else None
        if isinstance(at, dict) or (isinstance(at, list) and isinstance(last, int) and last < len(at)):
            at[last] = draw(_json)
    text = json.dumps(spec).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        cut = draw(st.integers(0, len(text)))
        text = (
            text[:cut] + draw(st.binary(max_size=3) | st.just(b"[" * 100_000)) + text[cut + draw(st.integers(0, 9)) :]
        )
    return text


_signatures = st.sampled_from(
    [
        metadata_reply(small_spec().to_json()),
        metadata("serving_default", {"ad": (9, [-1]), "bid": (1, [-1, 1])}),
    ]
) | st.builds(
    metadata,
    st.sampled_from(["score", "serving_default", "other"]),
    st.dictionaries(
        st.sampled_from(["request_ids", "candidate_ids", "pair_ids", "row_to_request", "ad", "bid", ""]),
        st.tuples(
            st.sampled_from([0, 1, 3, 7, 9, 23, 101, 9_999]),
            st.none() | st.lists(st.sampled_from([-1, 0, 1, 2, 5, 2**40, -(2**63)]), max_size=3),
        ),
    ),
    st.sampled_from(["p", "ctr", ""]),
)


@settings(max_examples=60, deadline=None)
@given(spec=_damaged_specs(), signatures=_signatures)
def test_a_damaged_version_is_rejected_or_prepared(spec: bytes, signatures: Any) -> None:
    verified(spec, signatures)


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None)
@given(spec=_damaged_specs(), signatures=_signatures)
def test_a_damaged_version_is_rejected_or_prepared_in_many_examples(spec: bytes, signatures: Any) -> None:
    verified(spec, signatures)


def _lists(count: int, **more: object) -> list[dict[str, object]]:
    kind = {"kind": "multi_valued", "buckets": 3, "max_values": 64, "deep": True, "side": "candidate", **more}
    return [{"name": f"f{i}", "path": f"f{i}", **kind} for i in range(count)]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"features": _lists(1_000)}, "64000 columns a row, at most 4096"),
        ({"features": _lists(2_000)}, "at most 1024 items"),
        ({"features": _lists(1, path="x[100000000]")}, "cannot be read at character 2"),
        ({"request": {"ad_id": "a[9999999999]"}}, "cannot be read at character 2"),
        ({"request": {"ad_id": "a" + ".a" * 200}}, "201 steps, at most 100"),
    ],
)
def test_a_spec_that_would_take_gigabytes_is_rejected(changed: dict[str, object], reason: str) -> None:
    tracemalloc.start()
    try:
        assert reason in rejection({**SMALL, **changed}, metadata("score", {}))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_spec_reply_above_8_mib_is_not_parsed() -> None:
    padded = json.dumps({**SMALL, "name": "x" * 2**23}).encode()
    found = verified(padded, metadata("score", {}))
    assert str(found) == f"INVALID_REPLY: ctr/7: its feature spec has {len(padded)} bytes, more than 8 MiB"


def test_the_error_of_a_spec_with_many_faults_stays_short() -> None:
    features = [{"name": f"f{i}", "kind": "categorical", "buckets": "x" * 10_000} for i in range(500)]
    reason = rejection({**SMALL, "features": features}, metadata("score", {}))
    assert "1500 errors, the first 10:" in reason
    assert len(reason) < 5_000


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"name: \xff", b"name: 2026-13-45", b"[" * 500, b"name: !!python/object:x {}", b""]
)
def test_a_spec_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"spec\.yaml"):
        FeatureSpec.from_yaml(path)


async def test_the_hash_of_a_spec_file_is_computed_before_the_event_loop_needs_it(tmp_path: Path) -> None:
    """With a vocabulary of a million words it takes 0.2 s, which would delay the records in flight."""
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(FOREIGN))
    models = SETTINGS.predictor.model_copy(update={"spec_files": {"ctr": path}})
    settings = SETTINGS.model_copy(update={"predictor": models})
    signatures = get_model_metadata_pb2.SignatureDefMap()
    definition = signatures.signature_def["serving_default"]
    for tensor, dtype in ((definition.inputs["ad"], 9), (definition.inputs["bid"], 1), (definition.outputs["p"], 1)):
        tensor.dtype = dtype
        tensor.tensor_shape.dim.add().size = -1
    reply = get_model_metadata_pb2.GetModelMetadataResponse()
    reply.metadata["signature_def"].Pack(signatures)
    servers = Replies(b"", reply)
    prepared = await verify(servers, settings, VERSION)
    assert "hash" in vars(prepared.encoder.spec)


async def test_a_version_without_known_requests_is_called_once_before_it_serves() -> None:
    """A version whose variables are missing is AVAILABLE; only a call shows the fault."""

    class WithoutVariables(Replies):
        async def warm(self, version: ModelVersion, requests: Iterable[BatchInputs]) -> None:
            assert sum(inputs.rows for inputs in requests) == 300
            raise PredictError("FAILED_PRECONDITION", "Could not find variable")

    spec = small_spec()
    servers = WithoutVariables(spec.to_json().encode(), metadata_reply(spec.to_json()))
    preparer = Preparer(servers, SETTINGS)
    with pytest.raises(PredictError, match="Could not find variable"):
        await preparer.prepare(VERSION)
    preparer.remember(b"{}", ())  # no request that any spec can read
    with pytest.raises(PredictError, match="Could not find variable"):
        await preparer.prepare(VERSION)
