import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.hit_ratio import hit_ratios, zipf_trace
from streamer.features.hashing import mix64
from streamer.scoring.cache import ScoreCache
from streamer.settings.sections import CacheSettings
from streamer.types import F32, U64, ModelVersion

A, B = ModelVersion("ctr", 1), ModelVersion("ctr", 2)


def cache_of(max_bytes: int = 2**16, ttl_s: float = 10.0, ttl_jitter: float = 0.0) -> ScoreCache:
    return ScoreCache(CacheSettings(max_bytes=max_bytes, ttl_s=ttl_s, ttl_jitter=ttl_jitter))


def keys_of(*numbers: int) -> U64:
    """128-bit keys as the encoder makes them: both halves well mixed."""
    n = np.array(numbers, dtype=np.uint64)
    return np.stack([mix64(2 * n + np.uint64(1)), mix64(2 * n + np.uint64(2))], axis=1)


def scores(*values: float) -> F32:
    return np.array(values, dtype=np.float32)


def insert(cache: ScoreCache, version: ModelVersion, keys: U64, ctr: F32, now: float) -> None:
    """Reserves the entries of n rows and fills them."""
    reservation = cache.reserve(version, keys, np.arange(len(keys)), 1, now=now, until=now)
    cache.fill(reservation, ctr, np.ones(len(keys), dtype=np.bool_), now)


def test_inserted_scores_are_found() -> None:
    cache = cache_of()
    insert(cache, A, keys_of(1, 2), scores(0.25, 0.5), 0.0)
    found = cache.lookup(A, keys_of(2, 3, 1, 1), 0.0)
    ctr, hit = found.ctr, found.known
    assert hit.tolist() == [True, False, True, True]
    assert ctr.tolist() == [0.5, 0.0, 0.25, 0.25]
    assert ctr.dtype == np.float32


def test_an_empty_cache_finds_no_row_not_even_one_with_key_zero() -> None:
    cache = cache_of()
    assert not cache.lookup(A, np.zeros((3, 2), dtype=np.uint64), 0.0).known.any()
    empty = np.zeros((0, 2), dtype=np.uint64)
    insert(cache, A, empty, scores(), 0.0)
    assert cache.lookup(A, empty, 0.0).known.shape == (0,)


def test_versions_are_separate_and_are_dropped_separately() -> None:
    cache = cache_of()
    insert(cache, A, keys_of(1), scores(0.1), 0.0)
    assert not cache.lookup(B, keys_of(1), 0.0).known.any()
    insert(cache, B, keys_of(1), scores(0.9), 0.0)
    assert cache.lookup(A, keys_of(1), 0.0).ctr == np.float32(0.1)
    cache.drop(A)
    assert not cache.lookup(A, keys_of(1), 0.0).known.any()
    assert cache.lookup(B, keys_of(1), 0.0).ctr == np.float32(0.9)
    insert(cache, A, keys_of(1), scores(0.2), 0.0)
    assert not cache.lookup(ModelVersion("ctr", 1, generation=1), keys_of(1), 0.0).known.any()
    cache.drop(B)
    cache.drop(B)
    assert cache.lookup(A, keys_of(1), 0.0).ctr == np.float32(0.2)


@pytest.mark.parametrize("start", [0.0, 12345.678])
def test_time_to_live(start: float) -> None:
    cache = cache_of(ttl_s=2.0)
    insert(cache, A, keys_of(1), scores(0.1), start)
    assert cache.lookup(A, keys_of(1), start + 1.98).known.all()
    assert not cache.lookup(A, keys_of(1), start + 2.0).known.any()
    insert(cache, A, keys_of(1), scores(0.3), start + 2.0)
    assert cache.lookup(A, keys_of(1), start + 3.0).ctr == np.float32(0.3)


def test_a_lookup_does_not_extend_a_lifetime_and_jitter_only_shortens_it() -> None:
    cache = cache_of(ttl_s=2.0, ttl_jitter=0.5)
    many = keys_of(*range(200))
    insert(cache, A, many, np.full(200, 0.5, dtype=np.float32), 0.0)
    shares = [cache.lookup(A, many, t).known.mean() for t in (0.99, 1.5, 1.99, 2.0)]
    assert shares[0] == 1.0
    assert 0.3 < shares[1] < 0.7
    assert shares[2] < 0.1
    assert shares[3] == 0.0


def test_a_lifetime_longer_than_the_clock_range() -> None:
    cache = cache_of(ttl_s=1e12)
    insert(cache, A, keys_of(1), scores(0.1), 0.0)
    assert cache.lookup(A, keys_of(1), 1e6).known.all()


def test_equal_rows_of_one_insert_share_an_entry() -> None:
    cache = cache_of()
    insert(cache, A, keys_of(*[1] * 50, 2), np.full(51, 0.5, dtype=np.float32), 0.0)
    insert(cache, A, keys_of(1, 1), scores(0.7, 0.7), 0.0)
    found = cache.lookup(A, keys_of(1, 2), 0.0)
    ctr, hit = found.ctr, found.known
    assert hit.all()
    assert ctr.tolist() == [np.float32(0.7), 0.5]


@pytest.mark.parametrize("max_bytes", [2**16, 2**20, 3 * 2**20 + 5])
def test_memory_is_bounded(max_bytes: int) -> None:
    cache = cache_of(max_bytes)
    arrays = [v for v in vars(cache).values() if isinstance(v, np.ndarray)]
    assert 0.99 * max_bytes < sum(array.nbytes for array in arrays) <= max_bytes
    assert all(array.size == cache.capacity for array in arrays)


def same_set(cache: ScoreCache, count: int) -> list[int]:
    """Numbers whose keys share a set."""
    numbers = range(cache.capacity // 16 * count * 3)
    placed = cache._place(A, keys_of(*numbers))[1]  # noqa: SLF001  which set a key belongs to is not public
    found: list[int] = np.flatnonzero(placed == placed[0])[:count].tolist()
    return found


def test_a_set_evicts_its_least_recently_used_entry() -> None:
    cache = cache_of()
    numbers = same_set(cache, 18)
    for t, number in enumerate(numbers[:16]):
        insert(cache, A, keys_of(number), scores(0.5), float(t) / 10)
    cache.lookup(A, keys_of(numbers[0]), 1.6)
    insert(cache, A, keys_of(*numbers[16:]), scores(0.5, 0.5), 1.7)
    found = cache.lookup(A, keys_of(*numbers), 1.8).known.tolist()
    assert found == [True, False, False, *[True] * 15]


def test_expired_entries_are_evicted_first() -> None:
    cache = cache_of(ttl_s=1.0)
    numbers = same_set(cache, 17)
    insert(cache, A, keys_of(numbers[0]), scores(0.5), 0.0)
    for number in numbers[1:16]:
        insert(cache, A, keys_of(number), scores(0.5), 0.5)
    insert(cache, A, keys_of(numbers[16]), scores(0.5), 1.2)
    assert cache.lookup(A, keys_of(*numbers[1:]), 1.2).known.all()


@settings(max_examples=40)
@given(st.data())
def test_a_found_score_is_the_stored_score(data: st.DataObject) -> None:
    cache = cache_of(ttl_s=3.0, ttl_jitter=0.2)
    kept: dict[tuple[ModelVersion, int], tuple[float, float]] = {}
    now = 0.0
    for turn in range(data.draw(st.integers(1, 12))):
        now += data.draw(st.sampled_from([0.0, 0.004, 0.5, 2.0]))
        version = data.draw(st.sampled_from([A, B]))
        # Many keys, so that a small cache has to evict.
        first = data.draw(st.integers(0, 3000))
        numbers = [*range(first, first + data.draw(st.integers(1, 1500))), first]
        action = data.draw(st.sampled_from(["insert", "insert", "lookup", "lookup", "drop"]))
        if action == "insert":
            ctr = np.array([np.float32((n * 31 + turn) % 997 / 997) for n in numbers], dtype=np.float32)
            insert(cache, version, keys_of(*numbers), ctr, now)
            kept |= {(version, n): (float(c), now) for n, c in zip(numbers, ctr, strict=True)}
        elif action == "drop":
            cache.drop(version)
            kept = {key: value for key, value in kept.items() if key[0] != version}
        else:
            found = cache.lookup(version, keys_of(*numbers), now)
            for n, ctr_n, known in zip(numbers, found.ctr.tolist(), found.known.tolist(), strict=True):
                if known:
                    score, at = kept[version, n]
                    assert ctr_n == score
                    assert now - at < 3.0
                else:
                    assert ctr_n == 0


@pytest.mark.parametrize(("max_bytes", "exponent"), [(2**16, 1.0), (2**18, 0.9), (2**18, 1.1), (2**20, 0.9)])
def test_the_hit_ratio_is_that_of_an_ideal_lru(max_bytes: int, exponent: float) -> None:
    cache = cache_of(max_bytes, ttl_s=1e6)
    # A third more rows than the largest of these caches holds: there the gap is widest.
    found = hit_ratios(cache, zipf_trace(43_000, 3000, 200, exponent=exponent))
    assert 0.4 < found.ideal < 0.98
    assert found.cache == pytest.approx(found.ideal, abs=0.01)
