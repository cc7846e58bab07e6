import numpy as np
import pytest

from streamer.rollout.version_guard import VersionGuard, stability_index
from streamer.settings.sections import GuardSettings
from streamer.types import F32, ModelVersion

A, B, C = (ModelVersion("ctr", v) for v in (1, 2, 3))
RANDOM = np.random.default_rng(4)


def scores(mean_logit: float = -3.0, n: int = 300) -> F32:
    return (1 / (1 + np.exp(-RANDOM.normal(mean_logit, 0.8, n)))).astype(np.float32)


def guard_after(version: ModelVersion = A, calls: int = 50, **settings: float) -> VersionGuard:
    """A guard that has counted calls of a trusted version."""
    guard = VersionGuard(GuardSettings(**{"watched_calls": 100, "min_rows": 3000, **settings}))
    guard.watch(version, trusted=True)
    for _ in range(calls):
        assert guard.scored(version, scores()) is None
    return guard


def verdicts(guard: VersionGuard, version: ModelVersion, mean_logit: float, calls: int = 200) -> list[str]:
    found = (guard.scored(version, scores(mean_logit)) for _ in range(calls))
    return [verdict for verdict in found if verdict]


def test_a_version_like_the_one_before_it_is_trusted() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    assert verdicts(guard, B, -3.0) == []
    assert verdicts(guard, B, 1.0) == [], "it is trusted after its first calls"


def test_a_version_whose_scores_drift_gets_one_verdict() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    [verdict] = verdicts(guard, B, 0.0)
    assert verdict.startswith("its score distribution differs from the previous version's: stability index")


def test_a_small_shift_is_no_drift() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    assert verdicts(guard, B, -2.8) == []


def test_a_version_that_fails_is_bad() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    found = [guard.failed(B) if i % 3 else guard.scored(B, scores()) for i in range(30)]
    assert [v for v in found if v] == ["13 of its first 20 calls failed"]


def test_rows_without_a_score_are_not_compared() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    found = [guard.scored(B, np.where(np.arange(300) % 3, scores(), np.float32(np.nan))) for _ in range(90)]
    assert found == [None] * 90


def test_a_version_that_lacks_most_scores_is_bad() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    found = [guard.scored(B, np.where(np.arange(300) % 2, scores(), np.float32(np.nan))) for _ in range(30)]
    assert [v for v in found if v] == ["20 of its first 20 calls failed"]


def test_a_version_is_not_bad_because_its_servers_fail_every_version() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    for _ in range(60):
        assert guard.failed(A) is None
        assert guard.failed(B) is None
    found = []
    for _ in range(60):
        found += [guard.scored(A, scores()), guard.failed(B)]
    assert [v for v in found if v] == ["20 of its first 20 calls failed"], "now only B fails"


def test_few_failures_are_accepted() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    found = [guard.failed(B) if i % 3 == 0 else guard.scored(B, scores()) for i in range(90)]
    assert found == [None] * 90


def test_a_trusted_version_is_not_judged() -> None:
    guard = guard_after()
    guard.watch(B, trusted=True)
    assert verdicts(guard, B, 2.0) == []
    assert [guard.failed(B) for _ in range(50)] == [None] * 50


def test_late_replies_of_another_version_do_not_count() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    assert verdicts(guard, A, 2.0) == []
    assert [guard.failed(A) for _ in range(50)] == [None] * 50


def test_with_nothing_to_compare_with_only_errors_count() -> None:
    guard = guard_after(calls=0)
    guard.watch(B, trusted=False)
    assert verdicts(guard, B, 2.0, calls=50) == []


def test_what_was_rolled_back_is_no_reference_for_the_next() -> None:
    guard = guard_after()
    guard.watch(B, trusted=False)
    while not guard.scored(B, scores(0.0)):
        pass
    guard.watch(A, trusted=True)
    guard.watch(C, trusted=False)
    assert verdicts(guard, C, -3.0) == []


def test_the_stability_index_of_like_and_unlike_samples() -> None:
    bins = np.linspace(-6, 3, 12)
    one, like, unlike = (np.histogram(RANDOM.normal(m, 1, 20_000), bins)[0].astype(float) for m in (-2, -2, 0))
    assert stability_index(one, like) < 0.01
    assert stability_index(one, unlike) > 1.0
    assert stability_index(one, unlike) == pytest.approx(stability_index(unlike, one))
