"""Assignment of variables to servers, and the cutting of tables; without TensorFlow."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_training.distributed.parameter_servers.partition import bounds, merge
from model_training.distributed.parameter_servers.placement import greedy, imbalance, loads, round_robin
from model_training.errors import DataError

_SIZES = st.lists(st.integers(0, 10**9), min_size=1, max_size=40).map(
    lambda sizes: {f"v{i}": s for i, s in enumerate(sizes)}
)
_SERVERS = st.integers(1, 8)


@given(_SIZES, _SERVERS)
def test_every_variable_has_one_server_and_no_byte_is_lost(sizes: dict[str, int], servers: int) -> None:
    placement = greedy(sizes, servers)
    assert placement.keys() == sizes.keys()
    held = loads(sizes, placement, servers)
    assert len(held) == servers
    assert sum(held) == sum(sizes.values())


@given(_SIZES, _SERVERS)
def test_the_fullest_server_holds_at_most_the_mean_and_most_of_the_largest_variable(
    sizes: dict[str, int], servers: int
) -> None:
    fullest = max(loads(sizes, greedy(sizes, servers), servers))
    assert fullest * servers <= sum(sizes.values()) + (servers - 1) * max(sizes.values())


@given(st.lists(st.integers(1, 60), min_size=1, max_size=7), st.integers(2, 3))
def test_it_is_within_graham_s_bound_of_the_best_placement(values: list[int], servers: int) -> None:
    sizes = {f"v{i}": value for i, value in enumerate(values)}
    best = min(
        max(loads(sizes, dict(zip(sizes, chosen, strict=True)), servers))
        for chosen in product(range(servers), repeat=len(sizes))
    )
    assert 3 * servers * max(loads(sizes, greedy(sizes, servers), servers)) <= (4 * servers - 1) * best


@given(_SIZES, _SERVERS, st.randoms(use_true_random=False))
def test_the_order_of_variables_does_not_matter(sizes: dict[str, int], servers: int, random: object) -> None:
    names = list(sizes)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert greedy({name: sizes[name] for name in names}, servers) == greedy(sizes, servers)


def test_assignment_in_turn_can_put_all_bytes_on_one_server() -> None:
    sizes = {"a": 90, "b": 1, "c": 90, "d": 1}
    assert imbalance(loads(sizes, round_robin(sizes, 2), 2)) == pytest.approx(180 / 91)
    assert imbalance(loads(sizes, greedy(sizes, 2), 2)) == 1.0


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_shards_are_adjacent_even_and_complete(rows: int, shards: int) -> None:
    cut = list(bounds(rows, shards))
    assert [start for start, _ in cut] == [0, *(end for _, end in cut[:-1])]
    assert cut[-1][1] == rows
    lengths = [end - start for start, end in cut]
    assert len(lengths) == min(rows, shards)
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 50), st.integers(1, 9))
def test_merging_undoes_cutting(rows: int, shards: int) -> None:
    table = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    parts = [table[start:end] for start, end in bounds(rows, shards)]
    np.testing.assert_array_equal(merge("t", parts, (rows, 3)), table)


def test_shards_that_do_not_fit_are_rejected_by_name() -> None:
    with pytest.raises(DataError, match=r"variable 'deep/t': has shape \[3, 2\], but the model needs \[4, 2\]"):
        merge("deep/t", [np.zeros((3, 2), np.float32)], (4, 2))
