import pytest

from streamer.rollout.user_share import UserShare

USERS = [f"user-{i}".encode() for i in range(4000)]


@pytest.mark.parametrize(("now", "share"), [(9.0, 0.0), (10.0, 0.0), (11.0, 0.1), (15.0, 0.5), (20.0, 1.0), (1e9, 1.0)])
def test_the_share_grows_evenly(now: float, share: float) -> None:
    rollout = UserShare(start=10.0, ramp_s=10.0)
    assert rollout.share(now) == pytest.approx(share)
    assert sum(rollout.has(user, now) for user in USERS) / len(USERS) == pytest.approx(share, abs=0.03)


def test_a_user_that_has_moved_stays_moved() -> None:
    rollout = UserShare(start=0.0, ramp_s=10.0)
    moved: set[bytes] = set()
    for now in range(11):
        have = {user for user in USERS if rollout.has(user, float(now))}
        assert moved <= have
        moved = have
    assert moved == set(USERS)


def test_without_a_ramp_everyone_moves_at_once() -> None:
    assert UserShare(start=5.0, ramp_s=0.0).share(5.0) == 1.0


def test_a_fixed_share_stays() -> None:
    rollout = UserShare(start=0.0, ramp_s=10.0, fixed=0.05)
    assert rollout.share(0.0) == rollout.share(1e9) == 0.05
    assert sum(rollout.has(user, 0.0) for user in USERS) / len(USERS) == pytest.approx(0.05, abs=0.015)


def test_records_without_a_key_are_one_user() -> None:
    rollout = UserShare(start=0.0, ramp_s=1.0)
    assert rollout.has(None, 0.99) == rollout.has(b"", 0.99)
    assert rollout.has(None, 1.0)
