"""The index with digests that share their buckets and their upper halves."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.tables.index import Index, entries_of
from streamer.types import U64

_BUCKETS = 4
# Few homes and few upper halves: full buckets, long searches, entries that only the digests in the slots tell apart.
_DIGEST = st.tuples(st.sampled_from([0, 1]), st.integers(1, 3), st.sampled_from([0, 3]), st.integers(0, 3)).map(
    lambda parts: (parts[0] << 32 | parts[1], parts[2] | parts[3] << 8)
)
_BATCHES = st.lists(st.tuples(st.sets(_DIGEST, max_size=6), st.sets(_DIGEST, max_size=6)), max_size=10)


def _array(digests: list[tuple[int, int]]) -> U64:
    return np.ascontiguousarray(np.array(digests, dtype=np.uint64).reshape(-1, 2).T)


@settings(max_examples=25, deadline=None)
@given(batches=_BATCHES)
def test_an_index_behaves_like_a_dict(batches: list[tuple[set[tuple[int, int]], set[tuple[int, int]]]]) -> None:
    in_slots = np.zeros((200, 2), np.uint64)
    index = Index(np.zeros((_BUCKETS, 8), np.uint64), in_slots)
    model: dict[tuple[int, int], int] = {}
    next_slot = 2
    every = sorted({digest for batch in batches for part in batch for digest in part})
    for added, removed in batches:
        new = sorted(added - set(model))[: 16 - len(model)]
        slots = np.arange(next_slot, next_slot + len(new))
        next_slot += len(new)
        in_slots[slots] = _array(new).T
        gone = sorted(removed & set(model))
        at = index.find(_array(gone))
        order, places, passed = index.places_for(_array(new))
        entries, erased = entries_of(_array(new), slots)[order], index.erased(at, passed)
        for number in range(len(new)):  # a kill may end a batch after each entry
            index.store(places[number : number + 1], entries[number : number + 1])
            assert index.search(*new[order[number]]) == places[number]
        index.store(at, erased)
        index.clear_tombstones(at)
        model |= dict(zip(new, slots.tolist(), strict=True))
        for digest in gone:
            del model[digest]
        found = index.find(_array(every))
        for digest, place in zip(every, found.tolist(), strict=True):
            assert (place >= 0) == (digest in model)
            assert place < 0 or index.slots_at(np.array([place]))[0] == model[digest]
        known = [digest for digest in every if digest in model]
        missing = [digest for digest in every if digest not in model]
        doubtful = set(index.doubtful(_array(every)).tolist())
        candidates = index.candidates(_array(known)).tolist()
        for digest, slot in zip(known, candidates, strict=True):
            assert slot == model[digest] or every.index(digest) in doubtful
        assert all(index.search(*digest) < 0 for digest in missing)
    at = index.find(_array(sorted(model)))
    for place in at.tolist():
        index.store(np.array([place]), index.erased(np.array([place]), set()))
        index.clear_tombstones(np.array([place]))
    assert (index.find(_array(every)) < 0).all()


def test_an_ad_that_passes_a_bucket_is_found_after_a_delete_in_the_same_batch() -> None:
    in_slots = np.zeros((20, 2), np.uint64)
    index = Index(np.zeros((_BUCKETS, 8), np.uint64), in_slots)
    first, later = _array([(number << 32, 4) for number in range(1, 8)]), _array([(8 << 32, 4), (9 << 32, 4)])
    for digests, slots in ((first, np.arange(2, 9)), (later, np.arange(9, 11))):
        in_slots[slots] = digests.T
        at = index.find(first[:, :1]) if digests is later else np.empty(0, np.int64)
        order, places, passed = index.places_for(digests)
        entries = np.concatenate((entries_of(digests, slots)[order], index.erased(at, passed)))
        index.store(np.concatenate((places, at)), entries)
    assert index.slots_at(index.find(later)).tolist() == [9, 10]
    assert index.find(first[:, :1]).tolist() == [-1]
