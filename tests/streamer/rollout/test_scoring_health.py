"""When a model counts as one that cannot be scored."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.rollout.scoring_health import OUTAGE_S, ScoringHealth


def test_calls_that_fail_for_long_are_an_outage_until_one_succeeds() -> None:
    health = ScoringHealth()
    for second in range(int(OUTAGE_S) + 1):
        assert health.outage(second) is None
        health.call_failed(float(second), "UNAVAILABLE: no route")
    assert health.outage(OUTAGE_S) == "for 10 s: UNAVAILABLE: no route"
    health.scored(OUTAGE_S + 1)
    assert health.outage(OUTAGE_S + 1) is None


def test_rare_failures_are_no_outage() -> None:
    health = ScoringHealth()
    for hour in range(3):
        health.call_failed(hour * 3600.0, "DEADLINE_EXCEEDED")
        assert health.outage(hour * 3600.0 + OUTAGE_S) is None


def test_an_outage_of_calls_is_forgotten_when_no_call_follows() -> None:
    health = ScoringHealth()
    health.call_failed(0.0, "DEADLINE_EXCEEDED")
    health.call_failed(OUTAGE_S, "DEADLINE_EXCEEDED")
    assert health.outage(2 * OUTAGE_S) is not None
    assert health.outage(5 * OUTAGE_S) is None


def test_failed_polls_are_an_outage_of_an_idle_worker() -> None:
    health = ScoringHealth()
    health.polled()
    health.poll_failed(5.0, "UNAVAILABLE: refused")
    health.poll_failed(14.0, "UNAVAILABLE: refused")
    assert health.outage(14.0) is None
    health.poll_failed(15.0, "UNAVAILABLE: refused")
    assert health.outage(15.0) == "for 10 s: UNAVAILABLE: refused"
    health.polled()
    assert health.outage(16.0) is None


def test_a_worker_that_scores_is_ready_although_its_polls_fail() -> None:
    health = ScoringHealth()
    for second in range(60):
        health.poll_failed(second, "UNIMPLEMENTED")
        health.scored(second)
        assert health.outage(second) is None
    assert health.outage(70.0) is not None


def test_a_successful_poll_does_not_hide_failing_calls() -> None:
    """Variables that are missing: the version is AVAILABLE, and each call fails."""
    health = ScoringHealth()
    for second in range(20):
        health.polled()
        health.call_failed(second, "FAILED_PRECONDITION")
    assert health.outage(20.0) == "for 20 s: FAILED_PRECONDITION"


@given(st.lists(st.tuples(st.sampled_from(["scored", "call", "polled", "poll"]), st.floats(0, 20)), max_size=40))
def test_no_outage_within_ten_seconds_of_a_scored_call(events: list[tuple[str, float]]) -> None:
    health, now, scored_at = ScoringHealth(), 0.0, float("-inf")
    for kind, pause in events:
        now += pause
        match kind:
            case "scored":
                health.scored(now)
                scored_at = now
            case "call":
                health.call_failed(now, "x")
            case "polled":
                health.polled()
            case _:
                health.poll_failed(now, "x")
        if now - scored_at < OUTAGE_S:
            assert health.outage(now) is None
