"""Memos of rows keep their bounds and give the rows that were encoded, in both forms."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer import native
from streamer.features.pairs import NativeJoiner, PythonJoiner
from streamer.features.row_memo import Matrices, NativeRowMemo, PythonRowMemo, RowForm, digests_of

needs_native = pytest.mark.skipif(native.module is None, reason="the compiled code is not used")
memos = pytest.mark.parametrize("kind", [PythonRowMemo, pytest.param(NativeRowMemo, marks=needs_native)])
Kind = type[PythonRowMemo | NativeRowMemo]
FORM = RowForm({"ids": np.empty((0, 3), dtype=np.int32), "words": np.empty((0, 2), dtype=np.uint64)})


class Rows:
    """Encodes texts of digits; row i of a text t has the numbers t, t + 1 and so on."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []

    def of(self, memo: PythonRowMemo | NativeRowMemo, texts: Sequence[bytes]) -> list[bytes]:
        """Gathers the rows of texts and checks them; returns those that were encoded."""
        self.encoded = []

        def encode(places: list[int]) -> tuple[Matrices, Sequence[object]]:
            self.encoded = [texts[place] for place in places]
            return matrices(self.encoded), [text.decode() for text in self.encoded]

        found, kept = memo.gather(FORM, digests_of(list(texts), 7), encode)
        assert kept == [text.decode() for text in texts]
        for name, expected in matrices(texts).items():
            np.testing.assert_array_equal(found[name], expected)
            assert found[name].dtype == expected.dtype
        return self.encoded


def matrices(texts: Sequence[bytes]) -> Matrices:
    numbers = np.array([int(text) for text in texts], dtype=np.int64)[:, None]
    return {"ids": (numbers + np.arange(3)).astype(np.int32), "words": (numbers * 2**40 + [[1, 2]]).astype(np.uint64)}


@memos
def test_a_row_is_encoded_once(kind: Kind) -> None:
    memo, rows = kind(10, 10**6), Rows()
    assert rows.of(memo, [b"1", b"2", b"1"]) == [b"1", b"2"]
    assert memo.unknown(digests_of([b"3", b"1", b"3"], 7)) == [0]
    assert rows.of(memo, [b"2", b"3", b"1"]) == [b"3"]
    assert rows.of(memo, []) == []
    assert len(memo.empty()) == 0
    assert len(memo) == 3


@memos
@settings(max_examples=100, deadline=None)
@given(
    capacity=st.integers(0, 6),
    max_bytes=st.integers(0, 3000),
    requests=st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=8),
)
def test_the_bounds_hold_and_each_row_is_right(
    kind: Kind, capacity: int, max_bytes: int, requests: list[list[int]]
) -> None:
    memo, rows = kind(capacity, max_bytes), Rows()
    for request in requests:
        rows.of(memo, [b"%d" % number for number in request])
        assert len(memo) <= capacity
        assert memo.used_bytes <= max_bytes
    assert memo.has_room_for(capacity)
    assert not memo.has_room_for(capacity + 1)


@memos
def test_the_oldest_rows_are_evicted_first(kind: Kind) -> None:
    memo, rows = kind(3, 10**6), Rows()
    rows.of(memo, [b"1", b"2", b"3"])
    rows.of(memo, [b"4"])
    assert rows.of(memo, [b"3", b"4"]) == []
    assert rows.of(memo, [b"1"]) == [b"1"]


@memos
def test_an_error_of_the_encoder_adds_nothing(kind: Kind) -> None:
    memo, rows = kind(10, 10**6), Rows()
    rows.of(memo, [b"1"])
    with pytest.raises(ValueError, match="invalid literal"):
        rows.of(memo, [b"1", b"x"])
    assert len(memo) == 1
    assert rows.of(memo, [b"1"]) == []


@needs_native
def test_the_compiled_memo_checks_its_arguments() -> None:
    assert native.module is not None
    memo, digests = native.module.RowMemo(10, 1000), digests_of([b"1"], 7)
    row = (b"12345678", None, 8)
    for arguments, reason in {
        (8, ((0, 8),), (), ()): "a digest without a row",
        (8, ((0, 8),), (1,), (row,)): "no such place",
        (9, ((0, 9),), (0,), (row,)): "a row of 8 bytes, expected 9",
        (8, ((1, 8),), (0,), (row,)): "a part outside the row",
        (8, ((2**64 - 1, 2),), (0,), (row,)): "a part outside the row",
    }.items():
        with pytest.raises(ValueError, match=reason):
            memo.gather(digests, *arguments)
    with pytest.raises(ValueError, match="digests of 16 bytes"):
        memo.unknown([b"short"])
    assert len(memo) == 0


@needs_native
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 5), pairs=st.integers(0, 4))
def test_both_joiners_give_the_same_ids_and_keys(seed: int, n: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    buckets, bases = rng.integers(1, 2**31, pairs).tolist(), rng.integers(0, 2**20, pairs).tolist()
    bases = [min(base, 2**31 - 1 - bucket) for base, bucket in zip(bases, buckets, strict=True)]
    python = PythonJoiner(buckets, bases, is_padded=True)
    request, candidates = (rng.integers(0, 2**64, (k, pairs + 2), dtype=np.uint64) for k in (1, n))
    for words in (request, candidates):
        words[rng.random(words.shape) < 0.2] = 0  # padding
    for ours, theirs in zip(
        NativeJoiner(buckets, bases, python)(request, candidates), python(request, candidates), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@needs_native
def test_the_compiled_joiner_checks_its_arguments() -> None:
    assert native.module is not None
    for buckets, bases in (([0], [1]), ([1], [])):
        with pytest.raises(ValueError, match="expected buckets above 0, and as many bases"):
            native.module.Pairs(buckets, bases)
    joiner = native.module.Pairs([5], [0])
    words, ids, keys = np.zeros((2, 3), np.uint64), np.zeros((2, 1), np.int32), np.zeros((2, 2), np.uint64)
    for wrong in (
        (words[:1, :2], words, ids, keys),
        (words[:1], words[:1], ids, keys),
        (words[:1], words, ids[:1], keys),
    ):
        with pytest.raises(ValueError, match=r"shapes of the matrices do not fit|contiguous"):
            joiner.join(*wrong)
    with pytest.raises(ValueError, match="contiguous"):
        joiner.join(words[:1], np.zeros((3, 2), np.uint64).T, ids, keys)
