"""Groups are users and requests, and not buckets of their hashes."""

import numpy as np

from model_training.data.examples import Examples
from model_training.data.identities import Identities, IdHasher
from model_training.evaluation.comparison import Measures, estimates, units_of
from model_training.evaluation.groups import GroupCounts, Groups


def _examples(users: list[object], requests: list[object]) -> Examples:
    n, hashed = len(users), IdHasher()
    identities = Identities(hashed(users), hashed(requests), np.zeros(n, np.int64))
    return Examples(np.zeros((n, 1), np.int32), np.zeros((n, 0), np.float32), np.zeros(n, np.int8), identities)


def test_users_of_one_bucket_are_different_users() -> None:
    """A score that knows only the user ranks nothing for a user, but ranks the users of one bucket."""
    rng = np.random.default_rng(1)
    users = rng.integers(0, 2_000, 20_000)
    rate = rng.beta(1, 4, 2_000)[users]
    labels = (rng.random(len(users)) < rate).astype(int)
    exact = Groups.of(_examples(users.tolist(), [None] * len(users)))
    assert exact.counts == GroupCounts(len(np.unique(users)), None, 0, len(users))
    found = Measures(labels, rate, exact.users).of(np.ones(len(np.unique(users))))
    assert found["gauc"] == 0.5
    assert "request_gauc" not in found
    buckets = Measures(labels, rate, users % 50)
    assert buckets.of(np.ones(50))["gauc"] > 0.7


def test_examples_without_a_user_are_counted_and_are_not_one_user() -> None:
    groups = Groups.of(_examples(["a", None, "a", "", float("nan"), "b"], ["r1", "r2", "r1", "r2", None, "r3"]))
    assert groups.users is not None
    assert groups.users.tolist() == [0, -1, 0, -1, -1, 1] or groups.users.tolist() == [1, -1, 1, -1, -1, 0]
    assert groups.counts == GroupCounts(2, 3, 3, 1)
    # Resampled together: the rows of a user, else of a request; the row without both is alone.
    units = units_of(groups.users, groups.requests)
    assert units is not None
    assert [np.flatnonzero(units == unit).tolist() for unit in units] == [[0, 2], [1, 3], [0, 2], [1, 3], [4], [5]]
    labels, scores = [1, 1, 0, 0, 1, 0], [0.9, 0.1, 0.5, 0.6, 0.3, 0.2]
    found = Measures(labels, scores, groups.users, groups.requests).of(np.ones(4))
    assert found["gauc"] == 1.0, "only user a has both classes"
    assert found["request_gauc"] == 0.5, "r1 is in the right order, r2 in the wrong one"
    only_r2 = np.bincount(units[[1]], minlength=4).astype(float)
    assert Measures(labels, scores, groups.users, groups.requests).of(only_r2)["request_gauc"] == 0.0


def test_one_user_with_both_classes_shows_nothing() -> None:
    labels, scores = [1, 0, 1, 0, 0, 0], [0.9, 0.1, 0.5, 0.6, 0.3, 0.2]
    found = estimates(Measures(labels, scores, np.array([0, 0, 1, 2, 3, 4])))
    assert found["gauc"].value == 1.0
    assert np.isnan(found["gauc"].interval(0.95)).all()
    assert np.isfinite(found["auc"].interval(0.95)).all()


def test_without_ids_each_example_is_a_unit() -> None:
    unknown = Groups.of(_examples([None] * 3, [None] * 3))
    assert unknown.users is None
    assert units_of(unknown.users, unknown.requests) is None
    old = Examples(np.zeros((3, 1), np.int32), np.zeros((3, 0), np.float32), np.zeros(3, np.int8))
    assert Groups.of(old) == Groups(None, None, GroupCounts(None, None, 3, 3))
