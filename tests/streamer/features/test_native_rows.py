"""The native extension gives the results and errors of the scorer without it, on any document."""

import os
import random
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import slices
from streamer.codec import Codec
from streamer.errors import InvalidRequestError
from streamer.features import Encoder
from streamer.features.native import NATIVE, STATE, Native
from streamer.features.native_rows import CutRows
from streamer.settings.sections import CodecSettings
from streamer.types import BidRequest
from tests.streamer.bad_records import BAD_RECORDS, body, shown
from tests.streamer.specs import candidates, requests, small_spec

SPEC = small_spec()
needs_native = pytest.mark.skipif(NATIVE is None, reason=f"the native extension: {STATE}")
ROOT, NATIVE_PROJECT = Path(__file__).parents[3], "native/pyproject.toml"
Outcome = tuple[object, ...]


class Scorer:
    """Codec and encoder of one version."""

    def __init__(
        self,
        native: Native | None,
        memoised_ads: int = 64,
        memo_bytes: int | None = None,
        *,
        max_candidates: int = 9,
    ) -> None:
        self.encoder = Encoder(SPEC, memoised_ads=memoised_ads, memo_bytes=memo_bytes, native=native)
        self.codec = Codec(
            CodecSettings(max_candidates=max_candidates),
            SPEC.request,
            SPEC.document_keys,
            SPEC.containers,
            native_rows=self.encoder.native_rows,
        )

    def decode(self, value: bytes) -> BidRequest:
        request = self.codec.decode(value, ())
        assert isinstance(request, BidRequest), request
        return request

    def outcome(self, value: bytes) -> Outcome:
        """The bytes of the encoded request, or the error."""
        request = self.codec.decode(value, ())
        if not isinstance(request, BidRequest):
            return ("bad record", request)
        try:
            encoded = self.encoder.encode(request)
        except InvalidRequestError as error:
            return ("invalid", request.request_id, str(error))
        matrices = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids", "keys", "ad_keys")
        arrays = [getattr(encoded, name) for name in matrices]
        return (request.request_id, encoded.ad_ids, [(a.dtype, a.shape, a.tobytes()) for a in arrays])


def test_it_is_installed_where_it_can_be_built() -> None:
    if os.environ.get("CI") and shutil.which("cc"):
        assert STATE == "used"


def test_the_extra_names_the_version_in_the_repository() -> None:
    own, extension = (
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", NATIVE_PROJECT)
    )
    assert own["optional-dependencies"]["native"] == [f"{extension['name']}=={extension['version']}"]


def document(fields: dict[str, object], ads: Sequence[object], *, indent: bool = False) -> bytes:
    whole = {"request_id": "r", **fields, "candidates": ads, "tmax": 3}
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2 if indent else 0)


numbers = st.integers(0, 2**32)


def is_json(fields: dict[str, object]) -> bool:
    """Whether orjson can write the values: it has no integers beyond 64 bits."""
    try:
        return bool(orjson.dumps(fields))
    except TypeError:
        return False


plain_requests = requests.filter(is_json)
plain_ads = st.lists(candidates.filter(is_json), min_size=1, max_size=4)


@needs_native
@settings(max_examples=10)
@given(st.lists(st.tuples(plain_requests, plain_ads, st.booleans()), min_size=1, max_size=4), st.sampled_from([5, 64]))
def test_the_same_bits(sent: list[tuple[dict[str, object], list[object], bool]], memoised_ads: int) -> None:
    """Also while small memos evict, and when documents repeat."""
    with_it, without = Scorer(NATIVE, memoised_ads, 6_000), Scorer(None)
    values = [document(fields, ads, indent=indent) for fields, ads, indent in sent]
    for value in values + values:
        assert with_it.outcome(value) == without.outcome(value)
        rows = with_it.encoder.native_rows
        assert rows is not None
        assert rows.used_bytes <= 6_000


def damaged(value: bytes, random_: random.Random) -> bytes:
    """The document with a few bytes changed, moved or missing."""
    data = bytearray(value)
    for _ in range(random_.choice((1, 1, 1, 2, 5))):
        at = random_.randrange(len(data) + 1)
        end = min(len(data), at + random_.choice((0, 1, 1, 2, 9)))
        inserted = random_.choice((b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\xff", b"0", b"null"))
        copied = random_.choice((b"", b"", bytes(data[at : at + 30])))
        data[at:end] = inserted + copied
    return bytes(data)


@needs_native
@settings(max_examples=10)
@given(plain_requests, plain_ads, numbers)
def test_damaged_documents(fields: dict[str, object], ads: list[object], seed: int) -> None:
    """Errors have the same text, and a document that is still valid the same bits."""
    with_it, without = Scorer(NATIVE), Scorer(None)
    value, random_ = document(fields, ads), random.Random(seed)
    for _ in range(10):
        changed = damaged(value, random_)
        assert with_it.outcome(value) == without.outcome(value)
        assert with_it.outcome(changed) == without.outcome(changed), changed


@needs_native
@pytest.mark.parametrize("value", [value for value, *_ in BAD_RECORDS], ids=shown)
def test_bad_records(value: bytes) -> None:
    assert Scorer(NATIVE).outcome(value) == Scorer(None).outcome(value)


KNOWN = b'{"ad_id":"known","campaign":"' + b"x" * 60 + b'"}'


@needs_native
@pytest.mark.parametrize(
    "value",
    [
        b'{"request_id":"r","candidates":[%b,%b]}' % (KNOWN, KNOWN),
        b' {"request_id" : "r" , "candidates" : [ %b , {"ad_id":"b"} ] } ' % KNOWN,
        b'{"request_id":"r","candidates":[%b],"candidates":[{"ad_id":"second"}]}' % KNOWN,
        b'{"request_id":"r","candidates":[%b],"candid\\u0061tes":[{"ad_id":"second"}]}' % KNOWN,
        b'{"request_id":"r","user":{"candidates":[]},"candidates":[%b]}' % KNOWN,
        b'{"request_id":"r","x":"\\"candidates\\":[","candidates":[%b]}' % KNOWN,
        b'{"request_id":"r","candidates":[%b,3]}' % KNOWN,
        b'{"request_id":"r","candidates":[%b,{}]}' % KNOWN,
        b'{"request_id":"r","candidates":[%b,]}' % KNOWN,
        b'{"request_id":"r","candidates":[%b]' % KNOWN,
        b'{"request_id":"r","candidates":[%b' % KNOWN[:-1],
        b'{"request_id":"r","candidates":[%b]}' % (KNOWN[:-2] + b'\xff"}'),
        b'{"request_id":"r","candidates":[{"ad_id":"a","x":' + b"[" * 40 + b"]" * 40 + b"}]}",
        b'{"request_id":"r","candidates":[{"ad_id":"a","x":' + b"[" * 2000 + b"]" * 2000 + b"}]}",
        b'{"request_id":"r","candidates":[{"ad_id":"a","x":[}]]}',
        b'{"request_id":"r","candidates":[' + b",".join([KNOWN] * 10) + b"]}",
        b'{"request_id":"r","candidates":[%b]} x' % KNOWN,
        b'\xef\xbb\xbf{"request_id":"r","candidates":[%b]}' % KNOWN,
    ],
    ids=shown,
)
def test_forms_that_are_easily_misread(value: bytes) -> None:
    with_it, without = Scorer(NATIVE), Scorer(None)
    known = body(candidates=[orjson.loads(KNOWN)])
    for one in (known, value, value, known):
        assert with_it.outcome(one) == without.outcome(one)


@needs_native
def test_it_finds_the_candidates_and_shows_their_json() -> None:
    scorer, ads = Scorer(NATIVE), [{"ad_id": "a"}, {"ad_id": "b", "bid": 1.5}]
    rows = scorer.decode(body(candidates=ads)).rows
    assert isinstance(rows, CutRows)
    assert list(rows) == [orjson.dumps(ad) for ad in ads]
    assert (rows[1], rows[:1], len(rows)) == (orjson.dumps(ads[1]), [orjson.dumps(ads[0])], 2)


@needs_native
def test_rows_that_were_evicted_before_their_request_is_encoded() -> None:
    with_it, without = Scorer(NATIVE, memoised_ads=4), Scorer(None)
    first = body(candidates=[{"ad_id": f"a{i}"} for i in range(4)])
    with_it.outcome(first)
    request = with_it.decode(first)
    for start in range(4, 40, 4):
        with_it.outcome(body(candidates=[{"ad_id": f"a{start + i}"} for i in range(4)]))
    encoded, expected = with_it.encoder.encode(request), without.encoder.encode(without.decode(first))
    assert encoded.ad_ids == expected.ad_ids
    np.testing.assert_array_equal(encoded.keys, expected.keys)


@needs_native
def test_rows_of_another_encoder_are_encoded_by_their_json() -> None:
    one, another, value = Scorer(NATIVE), Scorer(NATIVE), body(candidates=[{"ad_id": "a"}])
    another.outcome(body(candidates=[{"ad_id": "z"}]))
    one.outcome(value)
    assert another.encoder.encode(one.decode(value)).ad_ids == ["a"]


@needs_native
@pytest.mark.parametrize("last", ["a999", ""])
def test_many_new_candidates_are_encoded_in_slices(last: str) -> None:
    """Also if the last one is invalid."""
    with_it, without = (Scorer(native, 2_000, max_candidates=2_000) for native in (NATIVE, None))
    value = body(candidates=[{"ad_id": f"a{i}"} for i in range(999)] + [{"ad_id": last}])
    request, expected = with_it.decode(value), without.outcome(value)
    assert slices.are_needed(with_it.encoder, request)
    if last:
        *steps, encoded = slices.encode(with_it.encoder, request)
        assert (len(steps), encoded is not None and encoded.ad_ids) == (4, expected[1])
        assert not slices.are_needed(with_it.encoder, with_it.decode(value))
    else:
        with pytest.raises(InvalidRequestError, match=str(expected[2]).split(":")[0].replace("[", r"\[")):
            list(slices.encode(with_it.encoder, request))
    assert with_it.outcome(value) == expected


def sources(**changed: object) -> tuple[object, ...]:
    u64, i32 = np.uint64, np.int32
    parts = {
        "slots": np.zeros(2, np.uint32),
        "ids": np.zeros((4, 3), i32),
        "floats": np.zeros((4, 1), np.float32),
        "words": np.zeros((4, 7), u64),
        "request": np.zeros((1, 7), u64),
        "modulus": np.ones(5, u64),
        "base": np.zeros(5, i32),
    }
    return tuple((parts | changed).values())


def targets(**changed: object) -> tuple[object, ...]:
    parts = {
        "ids": np.zeros((2, 3), np.int32),
        "floats": np.zeros((2, 1), np.float32),
        "pairs": np.zeros((2, 5), np.int32),
        "keys": np.zeros((2, 2), np.uint64),
        "ad_keys": np.zeros(2, np.uint64),
    }
    return tuple((parts | changed).values())


@needs_native
@pytest.mark.parametrize(
    "call",
    [
        lambda n: n.gather([], sources(), targets(), False),
        lambda n: n.gather(["a"] * 5, sources(), targets(), False),
        lambda n: n.gather(["a"] * 4, sources(slots=np.array([0, 4], np.uint32)), targets(), False),
        lambda n: n.gather(["a"] * 4, sources(slots=b"abc"), targets(), False),
        lambda n: n.gather(["a"] * 4, sources(modulus=np.zeros(5, np.uint64)), targets(), False),
        lambda n: n.gather(["a"] * 4, sources(modulus=np.ones(6, np.uint64)), targets(), False),
        lambda n: n.gather(["a"] * 4, sources(request=np.zeros(6, np.uint64)), targets(), False),
        lambda n: n.gather(["a"] * 4, sources(words=np.zeros((4, 6), np.uint64)), targets(), False),
        lambda n: n.gather(["a"] * 4, sources(), targets(pairs=np.zeros((2, 4), np.int32)), False),
        lambda n: n.gather(["a"] * 4, sources(), targets(ids=np.zeros((1, 3), np.int32)), False),
        lambda n: n.CandidateIndex("k", 2**40, 0),
        lambda n: n.CandidateIndex("k", 2, 0).put(2, b"{}"),
        lambda n: [index := n.CandidateIndex("k", 2, 0), index.put(1, b"{}"), index.put(1, b"{}")],
    ],
)
def test_the_extension_checks_sizes(call: Callable[[Native], object]) -> None:
    assert NATIVE is not None
    with pytest.raises(ValueError, match=r"expected|slot|capacity|modulus|empty"):
        call(NATIVE)
