import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.ads import TablePosition
from streamer.codec import Codec, encode_scores, header_milliseconds
from streamer.errors import InvalidRequestError
from streamer.features import Cross, Encoder, FeatureSpec
from streamer.settings.sections import CodecSettings
from streamer.types import BadRecord, BidRequest, Header, ModelVersion, Origin, RequestPaths, ScoreMessage, StageTimes
from tests.streamer.bad_records import BAD_RECORDS, body, shown
from tests.streamer.specs import documents, small_spec

SPEC = small_spec()
CODEC = Codec(CodecSettings(), SPEC.request, SPEC.document_keys, SPEC.containers)
OPENRTB = Codec(
    CodecSettings(),
    RequestPaths(request_id="id", deadline_ms="tmax", model="ext.model", candidates="ext.candidates", ad_id="crid"),
    frozenset({"user", "imp"}),
    frozenset({"user"}),
)


def accepted(value: bytes, headers: Sequence[Header] = (), codec: Codec = CODEC) -> BidRequest:
    request = codec.decode(value, headers)
    assert isinstance(request, BidRequest), request
    return request


def rejected(value: bytes | None, headers: Sequence[Header] = (), codec: Codec = CODEC) -> BadRecord:
    bad = codec.decode(value, headers)
    assert isinstance(bad, BadRecord), bad
    return bad


def test_a_request_of_rows() -> None:
    request = accepted(b'{"request_id":"r1","user":{"id":1},"x":[1],"candidates":[{"ad_id":"a"}, {"ad_id" : "b"}]}')
    assert request.request_id == "r1"
    assert list(map(bytes, request.rows or ())) == [b'{"ad_id":"a"}', b'{"ad_id" : "b"}']
    assert request.columns is None
    assert request.size == 2
    assert request.fields["user"] == {"id": 1}
    assert "x" not in request.fields
    assert (request.deadline_ms, request.model) == (None, None)


def test_a_request_of_columns() -> None:
    request = accepted(body(candidates={"ad_id": ["a", "b"], "bid": [1, 2]}, deadline_ms=12.5, model="ctr"))
    assert request.rows is not None
    assert request.read_row is not None
    assert list(map(request.read_row, request.rows)) == [{"ad_id": "a", "bid": 1}, {"ad_id": "b", "bid": 2}]
    assert request.size == 2
    assert (request.deadline_ms, request.model) == (12.5, "ctr")


@pytest.mark.parametrize("value", [None, b""])
def test_an_empty_record(value: bytes | None) -> None:
    assert rejected(value) == BadRecord(None, "record: empty")
    assert rejected(value, [("request_id", b"h1")]) == BadRecord("h1", "record: empty")


@pytest.mark.parametrize(("value", "request_id", "reason"), BAD_RECORDS, ids=shown)
def test_bad_records(value: bytes, request_id: str | None, reason: str) -> None:
    bad = rejected(value)
    assert bad.request_id == request_id
    assert reason in bad.reason
    # With an id in the headers every record can be answered.
    assert rejected(value, [("request_id", b"h1")]).request_id in ({"h1"} if request_id is None else {"h1", request_id})


DAMAGED = (
    '{"user":{"id":"u1","note":"{[\\",}"},"imp":[{"id":"1","w":300}],"bcat":["IAB1","IAB2"],"id":"r1",'
    '"site":{"id":"s1"},"ext":{"id":"e1","candidates":[{"crid":"c1"},{"crid":"c2"}]}}'
)


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [
        ('"IAB2"]', '"IAB2",]'),
        ('"IAB2"]', "IAB2]"),
        ('"IAB1","IAB2"', '"IAB1" "IAB2"'),
        ('"w":300', '"w":0x300'),
        ('"w":300', '"w":'),
        ('"w":300', '"w":300,'),
        ('"w":300', "w:300"),
        ('"w":300', '"w":NaN,"h":undefined'),
        ('{"user"', '/* c */{"user"'),
        ('"u1"', '"u\x01\n1"'),
        ('"u1"', '"u\\q"'),
        ('"u1"', "'u1'"),
        ('"c2"}]}}', '"c2"}]}}}'),
        ('"c2"}]}}', '"c2'),
        ('"r1",', '"r1"'),
    ],
)
def test_a_damaged_document_keeps_its_id(whole: str, damaged: str) -> None:
    assert whole in DAMAGED
    bad = rejected(DAMAGED.replace(whole, damaged, 1).encode(), codec=OPENRTB)
    assert (bad.request_id, bad.reason[:22]) == ("r1", "record: not valid JSON")


def test_no_damage_leads_to_another_id() -> None:
    start = DAMAGED.index('"r1"')
    positions = [at for at in range(len(DAMAGED)) if not start < at <= start + 3]  # not in the id itself
    found = [
        OPENRTB.decode((DAMAGED[:at] + damage + DAMAGED[at + cut :]).encode(), ()).request_id
        for at in positions
        for damage in ("", ",", '"', "{", "}", "[", "]", ":", "\\", "x", "\0", "},", '"x":{')
        for cut in (0, 1)
    ]
    assert set(found) <= {None, "r1"}
    assert found.count("r1") > len(found) / 2
    assert {OPENRTB.decode(DAMAGED[:at].encode(), ()).request_id for at in range(start + 4)} == {None}
    assert {OPENRTB.decode(DAMAGED[:at].encode(), ()).request_id for at in range(start + 4, len(DAMAGED))} == {"r1"}


def test_the_id_of_a_damaged_document_may_be_nested() -> None:
    paths = RequestPaths(request_id="openrtb.request.id", candidates="openrtb.request.ext.candidates")
    codec = Codec(CodecSettings(), paths, frozenset(), frozenset())
    for value in (
        b'{"openrtb":{"ver":"3.0","request":{"item":[{"id":"1",}],"id":"r1"}}}',
        b'{"id":"x","request":{"id":"y"},"openrtb":{"id":"z","request":{"id":"r1","item":[',
        b'{"openrtb":{"context":{"request":{"id":"x"}},"request":{"id":"r1"},,}}',
    ):
        assert rejected(value, codec=codec).request_id == "r1"
    for value in (
        b'{"openrtb":{"request":{"id":"r1","id":"r2",}}}',
        b'{"openrtb":[{"request":{"id":"x"}},],}',
        b'{"openrtb":{"id":"x",}}',
        b'{"id":"x"},',
    ):
        assert rejected(value, codec=codec).request_id is None


@pytest.mark.parametrize(
    "value", [b"[" * 10**6, b'{"x":[' + b"[]," * 350_000, b'{"x":"' + b'\\"' * 500_000, b'{"x":[' + b'"\\"",' * 160_000]
)
def test_a_search_for_an_id_ends_soon(value: bytes) -> None:
    start = time.process_time()
    assert rejected(value).request_id is None
    assert time.process_time() - start < 20.0  # of a linear search: 0.3; of a quadratic one: many minutes


def test_of_equal_keys_the_last_one_counts() -> None:
    request = accepted(b'{"request_id":"a","request_id":"r1","candidates":[],"candidates":[{"ad_id":"x","ad_id":"y"}]}')
    assert request.request_id == "r1"
    assert Encoder(SPEC).encode(request).ad_ids == ["y"]
    wrong_shape = b'{"request_id":"a","request_id":"r1","user":3}'
    assert rejected(wrong_shape).request_id == "r1"


def test_a_byte_order_mark_is_ignored() -> None:
    marked, plain = accepted(b"\xef\xbb\xbf" + body()), accepted(body())
    assert (marked.request_id, marked.fields, marked.size) == (plain.request_id, plain.fields, plain.size)
    assert list(map(bytes, marked.rows or ())) == list(map(bytes, plain.rows or ())) != []


@given(st.binary(max_size=40))
def test_no_bytes_raise(value: bytes) -> None:
    CODEC.decode(value, [])
    OPENRTB.decode(value, [])


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["id", "request_id", "user", "candidates", "ext", "imp"]), documents))
def test_no_document_raises(document: dict[str, object]) -> None:
    value = msgspec.json.encode(document)
    for codec in (CODEC, OPENRTB):
        codec.decode(value, [])
        codec.decode(value.replace(b"null", b"NaN"), [("deadline_ms", b"x")])


def test_unusual_valid_requests() -> None:
    request = accepted(body(candidates=[{"ad_id": "a"}, {"ad_id": "a"}], unknown={"deep": [1]}))
    assert Encoder(SPEC).encode(request).ad_ids == ["a", "a"]
    assert accepted(body(candidates=[{"ad_id": "a"}] * 4096)).size == 4096
    assert accepted(body(user=None)).fields["user"] is None
    assert accepted(body(deadline_ms="30")).deadline_ms == 30.0
    assert accepted(b'{"request_id":"r1","z":1e999,"candidates":[{"ad_id":"a"}]}').size == 1
    assert accepted(body(request_id="Ünï \x00")).request_id == "Ünï \x00"
    huge = accepted(b'{"request_id":"r1","user":{"id":%d},"candidates":[{"ad_id":"a","bid":%d}]}' % (2**70, 2**70))
    assert np.isfinite(Encoder(SPEC).encode(huge).candidate_floats).all()


def test_headers_replace_missing_fields() -> None:
    headers = [("x", b"1"), ("request_id", b"h1"), ("deadline_ms", b"12.5")]
    alone = accepted(b'{"candidates":[{"ad_id":"a"}]}', headers)
    assert (alone.request_id, alone.deadline_ms) == ("h1", 12.5)
    both = accepted(body(deadline_ms=7), headers)
    assert (both.request_id, both.deadline_ms) == ("r1", 7.0)
    assert rejected(body(), [("deadline_ms", b"soon")]).reason.startswith("deadline_ms: ")
    assert rejected(b'{"candidates":[1]}', [("request_id", b"\xff")]).request_id is None
    assert rejected(b'{"candidates":[1]}', [("request_id", b"")]).request_id is None


def openrtb(document: dict[str, object], name: str = "openrtb") -> BidRequest:
    spec = FeatureSpec.from_yaml(Path(f"configs/features/{name}.yaml"))
    codec = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers, spec.deadline_margin_ms)
    return accepted(orjson.dumps({"id": "r1", "candidates": [{"ad_id": "a"}], **document}), codec=codec)


@pytest.mark.parametrize(
    ("tmax", "budget"), [(120, 70.0), ("120", 70.0), (120.5, 70.5), ([120], 70.0), (50, 0.0), (20, 0.0), (None, None)]
)
def test_tmax_is_the_deadline_with_a_margin(tmax: object, budget: float | None) -> None:
    assert openrtb({"tmax": tmax}).deadline_ms == budget


def test_a_deadline_in_the_headers_has_no_margin() -> None:
    codec = Codec(CodecSettings(), SPEC.request, SPEC.document_keys, SPEC.containers, 50.0)
    assert accepted(body(), [("deadline_ms", b"40")], codec).deadline_ms == 40.0
    assert accepted(body(deadline_ms=80), [("deadline_ms", b"40")], codec).deadline_ms == 30.0


def test_openrtb_in_other_peoples_types_has_equal_encodings() -> None:
    spec = FeatureSpec.from_yaml(Path("configs/features/openrtb.yaml"))
    usual: dict[str, object] = {
        "imp": [{"tagid": "7", "bidfloor": 0.5, "instl": 1, "banner": {"w": 300, "h": 250, "format": [{"w": 300}]}}],
        "user": {"id": "18", "yob": 1990, "data": [{"segment": [{"id": "s1"}]}]},
        "device": {"devicetype": 4, "w": 1024, "geo": None},
        "site": {"cat": ["IAB1"], "publisher": {}},
        "bcat": ["IAB25"],
        "cur": ["USD"],
        "at": 2,
    }
    other: dict[str, object] = {
        "imp": {
            "tagid": 7.0,
            "bidfloor": "0.50",
            "instl": "1",
            "banner": {"w": "300", "h": 250.0, "format": {"w": 300}},
        },
        "user": {"id": 18, "yob": "1990", "data": {"segment": {"id": "s1"}}},
        "device": {"devicetype": 4.0, "w": [1024], "geo": {}},
        "site": {"cat": "IAB1", "publisher": None},
        "app": None,
        "bcat": "IAB25",
        "cur": "USD",
        "at": "2",
    }
    encoder = Encoder(spec)
    found = [encoder.encode(openrtb(document)) for document in (usual, other)]
    for part in ("request_ids", "request_floats", "candidate_ids", "pair_ids", "keys"):
        assert np.array_equal(*(getattr(encoded, part) for encoded in found)), part


def test_of_two_impressions_the_first_one_counts() -> None:
    encoder = Encoder(FeatureSpec.from_yaml(Path("configs/features/openrtb.yaml")))
    first, second = {"tagid": "a", "banner": {"w": 300}}, {"tagid": "b", "bidfloor": 3, "video": {"w": 640}}
    keys = [encoder.encode(openrtb({"imp": imp})).keys.tolist() for imp in ([first], [first, second], [second, first])]
    assert keys[0] == keys[1] != keys[2]


def test_a_spec_reads_the_nesting_of_openrtb_3() -> None:
    user = {"name": "user", "path": "openrtb.request.context.user.id", "side": "user", "kind": "categorical"}
    deal = {"name": "deal", "path": "openrtb.request.item[0].deal[*].id", "side": "context", "kind": "multi_valued"}
    root = "openrtb.request"
    spec = FeatureSpec.from_mapping(
        {
            "name": "openrtb3",
            "embedding_dim": 1,
            "request": {"request_id": f"{root}.id", "deadline_ms": f"{root}.tmax", "candidates": f"{root}.ext.ads"},
            "features": [
                {**user, "buckets": 99, "wide": True},
                {**deal, "buckets": 99, "max_values": 2, "wide": True},
                {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 9, "wide": True},
            ],
        }
    )
    codec = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers)
    item = {"id": "1", "deal": [{"id": "d1"}, {"id": "d2"}]}
    inner = {"id": "r1", "tmax": 90, "context": {"user": {"id": "u"}}, "item": [item], "ext": {"ads": [{"ad_id": "a"}]}}
    request = accepted(orjson.dumps({"openrtb": {"ver": "3.0", "request": inner}}), codec=codec)
    assert (request.request_id, request.deadline_ms, request.size) == ("r1", 90.0, 1)
    assert (Encoder(spec).encode(request).request_ids > 1).all()
    nothings: list[object] = [None, {}, {"request": None}, {"request": []}]
    for nothing in nothings:
        assert "request_id" not in rejected(orjson.dumps({"openrtb": nothing}), codec=codec).reason
    # A document of version 2 at a spec of version 3, and the other way round.
    assert (
        rejected(orjson.dumps(inner), codec=codec).reason
        == "openrtb.request.id: expected a non-empty string, got nothing"
    )
    assert rejected(orjson.dumps({"openrtb": {"request": inner}})).reason.startswith("request_id: expected a non-empty")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
FUZZED = Encoder(SPEC, memoised_ads=8)
_PLACES = [f.path for f in SPEC.features if not isinstance(f, Cross)]
_OWN = ["request_id", "deadline_ms", "model", "candidates", "ad_id"]


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from([*_PLACES, *_OWN]), JSON, max_size=5))
def test_no_json_value_has_another_outcome_than_a_request_or_a_bad_record(values: dict[str, object]) -> None:
    document: dict[str, object] = {"request_id": "r1"}
    ad: dict[str, object] = {"ad_id": "a"}
    document["candidates"] = [ad]
    for path, value in values.items():
        top, _, inner = path.partition(".")
        target = document if top in ("user", "context", *_OWN[:-1]) else ad
        target[top.partition("[")[0]] = {inner: value} if inner else value
    request = CODEC.decode(json.dumps(document).encode(), ())
    if isinstance(request, BidRequest):
        with suppress(InvalidRequestError):
            encoded = FUZZED.encode(request)
            assert np.isfinite(encoded.request_floats).all()
            assert np.isfinite(encoded.candidate_floats).all()


@pytest.mark.parametrize(
    ("text", "found"), [(b"30", 30.0), (b"0.5", 0.5), (b"0", None), (b"-1", None), (b"nan", None), (b"inf", None)]
)
def test_the_budget_in_the_headers(text: bytes, found: float | None) -> None:
    assert header_milliseconds([("deadline_ms", text)]) == found


def test_the_budget_in_the_headers_that_cannot_be_read() -> None:
    assert [header_milliseconds(h) for h in ([], [("deadline_ms", b"\xff")], [("deadline_ms", b"x")])] == [None] * 3


def test_nested_paths() -> None:
    document: dict[str, object] = {
        "id": "auction-1",
        "tmax": 120,
        "imp": [{"id": "1", "banner": {"w": 300}}],
        "user": {"id": "u"},
        "ext": {"model": "ctr", "candidates": [{"crid": "c1", "w": 1.5}, {"crid": "c2"}]},
    }
    request = accepted(orjson.dumps(document), codec=OPENRTB)
    assert (request.request_id, request.deadline_ms, request.model) == ("auction-1", 120.0, "ctr")
    assert request.rows is not None
    assert [orjson.loads(bytes(row)) for row in request.rows] == [{"crid": "c1", "w": 1.5}, {"crid": "c2"}]
    assert request.fields["imp"] == document["imp"]
    columns = accepted(orjson.dumps({**document, "ext": {"candidates": {"crid": ["c1"]}}}), codec=OPENRTB)
    assert columns.columns == {"crid": ["c1"]}


@pytest.mark.parametrize(
    ("ext", "reason"),
    [
        (None, "ext.candidates: expected a list of objects or columns, got nothing"),
        (3, "ext.candidates: expected a list of objects or columns, got nothing"),
        ({"candidates": 3}, "ext.candidates: expected a list of objects or columns, got 3"),
        ({"candidates": {"crid": "c"}}, "ext.candidates.crid: expected a list of ad ids, got 'c'"),
        ({"candidates": [{}], "model": 3}, "ext.model: expected a string, got 3"),
    ],
)
def test_nested_paths_in_reasons(ext: object, reason: str) -> None:
    bad = rejected(orjson.dumps({"id": "a1", "ext": ext}), codec=OPENRTB)
    assert bad == BadRecord("a1", reason)


def test_huge_integers_in_nested_candidates() -> None:
    value = b'{"id":"a1","ext":{"candidates":[{"crid":"c","w":%d}]}}' % 2**70
    request = accepted(value, codec=OPENRTB)
    assert list(map(bytes, request.rows or ())) == [b'{"crid":"c","w":%d}' % 2**70]


# Answers


def answer(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {"request_id": "r1", "status": "ok", "origin": Origin("t", 3, 99), **changes}
    decoded: dict[str, object] = orjson.loads(encode_scores(ScoreMessage(**values)))  # type: ignore[arg-type]
    return decoded


def test_an_answer() -> None:
    ctr = np.array([0.1, 0.0, 1.0], dtype=np.float32)
    found = answer(
        model=ModelVersion("ctr", 7),
        ad_ids=["a", "b", "a"],
        ctr=ctr,
        sources=np.array([0, 1, 2], dtype=np.int8),
        times=StageTimes(decode=0.12345, total=2.0),
        batch_rows=600,
        position=TablePosition("ads", (7, 0)),
    )
    assert found == {
        "request_id": "r1",
        "status": "ok",
        "model": {"name": "ctr", "version": 7},
        "ads": {"topic": "ads", "positions": [7, 0]},
        "ad_id": ["a", "b", "a"],
        "ctr": [pytest.approx(0.1), 0.0, 1.0],
        "source": ["model", "cache", "prior"],
        "ms": {"decode": 0.123, "encode": 0.0, "queue": 0.0, "predict": 0.0, "total": 2.0},
        "batch_rows": 600,
        "origin": {"topic": "t", "partition": 3, "offset": 99},
    }


@given(st.lists(st.floats(0, 1, width=32), min_size=1))
def test_scores_come_back_exactly(scores: list[float]) -> None:
    ctr = np.array(scores, dtype=np.float32)
    found = answer(ad_ids=["a"] * len(scores), ctr=ctr, sources=np.zeros(len(scores), dtype=np.int8))
    assert np.array_equal(np.array(found["ctr"], dtype=np.float32), ctr)


@pytest.mark.parametrize("status", ["expired", "invalid"])
def test_an_answer_without_scores(status: str) -> None:
    found = answer(status=status, reason="user: wrong")
    assert found["reason"] == "user: wrong"
    assert not {"ad_id", "ads", "ctr", "source", "model", "batch_rows"} & found.keys()
