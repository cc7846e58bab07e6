"""Digests of ad ids, and slots that begin with them: the same with and without compiled code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from streamer import native
from streamer.tables.digests import digests_of, known_ads
from streamer.tables.index import Index
from streamer.types import U64

needs_native = pytest.mark.skipif(native.module is None, reason="the compiled module is not used")
words = st.integers(0, 2**64 - 1)
halves = st.integers(1, 2**32 - 1)


@contextmanager
def _in_python() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "module", None)
        yield


@given(ids=st.lists(st.text(min_size=1) | st.sampled_from(["\ud801", "ü", "a" * 300])))
def test_a_digest_is_the_xxh3_of_the_utf_8_bytes(ids: list[str]) -> None:
    expected = [xxhash.xxh3_128_digest(ad_id.encode("utf-8", "surrogatepass")) for ad_id in ids]
    found = digests_of(ids)
    assert found.shape == (2, len(ids))
    assert [column.tobytes() for column in found.T] == expected
    assert np.array_equal(digests_of(tuple(ids)), found)
    with _in_python():
        assert np.array_equal(digests_of(ids), found)


@needs_native
@given(seconds=st.lists(words, max_size=20), choices=st.randoms(use_true_random=False))
def test_the_slots_of_ads_are_those_of_numpy(seconds: list[int], choices: np.random.Generator) -> None:
    """Entries are empty, tombstones, of other ads, and of ads with equal halves."""
    firsts = [choices.choice([1, 2, 5]) << 32 for _ in seconds]
    digests = np.array([firsts, seconds], dtype=np.uint64)
    pool = [0, 1, *(half << 32 | slot for half in (1, 2, 3) for slot in (2, 3, 2**32 - 1))]
    entries = np.array([[choices.choice(pool) for _ in range(8)] for _ in range(64)], dtype=np.uint64)
    index = Index(entries, np.zeros((4, 2), dtype=np.uint64))
    found = index.candidates(digests)
    with _in_python():
        assert np.array_equal(index.candidates(digests), found)


@given(differing=st.lists(st.integers(0, 3), max_size=20), size=st.sampled_from([16, 24, 400]))
def test_a_row_is_known_by_both_words(differing: list[int], size: int) -> None:
    """0: an equal digest; 1, 2: a word differs; 3: both do."""
    n = len(differing)
    digests = digests_of([f"ad{i}" for i in range(n)])
    slots = np.zeros((n, size // 8), dtype=np.uint64)
    slots[:, :2] = (digests ^ np.array([[d & 1 for d in differing], [d >> 1 for d in differing]], dtype=np.uint64)).T
    known, are_all = known_ads(slots, digests)
    assert known.tolist() == [d == 0 for d in differing]
    assert are_all == (not any(differing))
    with _in_python():
        assert known_ads(slots, digests)[0].tolist() == known.tolist()


def _digests(n: int) -> U64:
    return np.zeros((2, n), dtype=np.uint64)


@needs_native
def test_compiled_code_rejects_other_shapes_and_types() -> None:
    module, slots = native.module, np.zeros(2, dtype=np.int64)
    assert module is not None
    rows, known = np.zeros((2, 2), dtype=np.uint64), np.zeros(2, dtype=np.uint8)
    calls: tuple[Callable[[], object], ...] = (
        lambda: module.ad_digests(["a"], _digests(2)),
        lambda: module.ad_digests(["a"], np.zeros(3, dtype=np.uint64)),
        lambda: module.ad_digests(["a", "b"], _digests(4)[:, ::2]),
        lambda: module.ad_slots(_digests(2), np.zeros((3, 8), dtype=np.uint64), slots),
        lambda: module.ad_slots(_digests(3), np.zeros((2, 8), dtype=np.uint64), slots),
        lambda: module.ads_known(rows, _digests(3), known),
        lambda: module.ads_known(rows[:, :1].copy(), _digests(2), known),
        lambda: module.ads_known(rows, _digests(0), known[:0]),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"fit|expected"):
            call()
    with pytest.raises(TypeError):
        module.ad_digests([1, 2], _digests(2))
    with pytest.raises(BufferError):
        module.ad_slots(_digests(2).view(np.int64), np.zeros((2, 8), dtype=np.uint64), slots)
    read_only = _digests(1)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="can be written"):
        module.ad_digests(["a"], read_only)
