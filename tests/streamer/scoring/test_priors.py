import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import native
from streamer.scoring.priors import Priors
from streamer.types import F32, U64


def ads(*values: int) -> U64:
    return np.array(values, dtype=np.uint64)


def scores(*values: float) -> F32:
    return np.array(values, dtype=np.float32)


def test_an_unknown_ad_has_the_default_prior() -> None:
    assert Priors().lookup(ads(0, 1, 2**63), 0.03).tolist() == pytest.approx([0.03] * 3)


def test_the_first_scores_count_as_a_plain_mean() -> None:
    priors = Priors(rate=0.05)
    for score in (0.1, 0.2, 0.6):
        priors.learn(ads(7), scores(score))
    assert priors.lookup(ads(7), 0.0)[0] == pytest.approx(0.3)


def test_the_mean_follows_a_change() -> None:
    priors = Priors(rate=0.1)
    for score in [0.5] * 50 + [0.1] * 50:
        priors.learn(ads(7), scores(score))
    assert priors.lookup(ads(7), 0.0)[0] == pytest.approx(0.1, abs=0.01)


def test_an_ad_does_not_inherit_the_mean_of_the_ad_that_it_replaces() -> None:
    priors = Priors(places=16)
    priors.learn(ads(3), scores(0.9))
    assert priors.lookup(ads(19), 0.2).tolist() == pytest.approx([0.2])
    priors.learn(ads(19), scores(0.4))
    assert priors.lookup(ads(3, 19), 0.2).tolist() == pytest.approx([0.2, 0.4])


def test_ads_are_learnt_independently() -> None:
    priors = Priors()
    priors.learn(ads(1, 2, 3), scores(0.1, 0.2, 0.3))
    priors.learn(ads(2), scores(0.4))
    assert priors.lookup(ads(3, 2, 1, 4), 0.0).tolist() == pytest.approx([0.3, 0.3, 0.1, 0.0])


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.floats(0, 1, width=32)), min_size=1, max_size=60))
def test_a_prior_is_a_probability(learnt: list[tuple[int, float]]) -> None:
    priors = Priors(places=8, rate=0.3)
    for ad, score in learnt:
        priors.learn(ads(ad), scores(score))
    found = priors.lookup(ads(*(ad for ad, _ in learnt)), 0.5)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.skipif(native.module is None, reason="the compiled code is not used")
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1, width=32)), min_size=1, max_size=12), max_size=8)
)
def test_both_forms_learn_the_same(requests: list[list[tuple[int, float]]]) -> None:
    compiled, python = Priors(places=8, rate=0.3), Priors(places=8, rate=0.3)
    python._learn = None  # noqa: SLF001
    for request in requests:
        keys, ctr = ads(*(ad for ad, _ in request)), scores(*(score for _, score in request))
        compiled.learn(keys, ctr)
        python.learn(keys, ctr)
        every = np.arange(21, dtype=np.uint64)
        np.testing.assert_array_equal(compiled.lookup(every, 0.5), python.lookup(every, 0.5))


@pytest.mark.skipif(native.module is None, reason="the compiled code is not used")
def test_the_compiled_form_checks_its_arguments() -> None:
    assert native.module is not None
    with pytest.raises(ValueError, match="shapes of the table or of the scores do not fit"):
        native.module.learn_priors(ads(0, 0), scores(0), scores(0, 0), ads(1), scores(1), 0.1)
    with pytest.raises(ValueError, match="shapes of the table or of the scores do not fit"):
        native.module.learn_priors(ads(0, 0), scores(0, 0), scores(0, 0), ads(1), scores(1, 1), 0.1)
