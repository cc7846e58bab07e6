import pytest

from streamer.rollout.versions import Versions


@pytest.mark.parametrize(
    ("pinned", "available", "wanted"),
    [
        (None, set(), None),
        (None, {1}, 1),
        (None, {3, 1, 2}, 3),
        (2, {2}, None),
        (2, {1, 2}, None),
        (2, {2, 3, 4}, 4),
        (3, {1, 2}, 2),  # the pinned one is gone: an older one is better than none
        (3, {4, 5}, 5),
        (3, set(), None),
    ],
)
def test_the_version_to_prepare(pinned: int | None, available: set[int], wanted: int | None) -> None:
    assert Versions(pinned=pinned).wanted(available, 0.0) == wanted


def test_nothing_is_pinned_before_it_is_adopted() -> None:
    versions = Versions()
    assert versions.wanted({4}, 0.0) == 4
    before = versions.pinned
    versions.adopt(4)
    assert (before, versions.pinned) == (None, 4)
    assert versions.wanted({4}, 0.0) is None


def test_a_refused_version_is_left_alone_for_a_while() -> None:
    versions = Versions(retry_s=30.0, pinned=1)
    versions.refuse(3, now=100.0)
    assert versions.wanted({1, 3}, 129.9) is None
    assert versions.wanted({1, 2, 3}, 129.9) == 2
    assert versions.wanted({1, 2, 3}, 130.0) == 3
    assert versions.pinned == 1


def test_the_pinned_one_is_gone_and_the_newest_was_refused() -> None:
    versions = Versions(pinned=5)
    versions.refuse(4, now=0.0)
    assert versions.wanted({3, 4}, 1.0) == 3


def test_an_adopted_version_is_no_longer_refused() -> None:
    versions = Versions()
    versions.refuse(2, now=0.0)
    versions.adopt(2)
    versions.adopt(1)
    assert versions.wanted({1, 2}, 1.0) == 2


def test_a_held_version_stays_whatever_comes() -> None:
    versions = Versions(pinned=3)
    versions.hold(2)
    assert versions.wanted({1, 2, 3, 4}, 0.0) == 2
    versions.adopt(2)
    assert versions.wanted({1, 2, 3, 4}, 0.0) is None
    versions.release()
    assert versions.wanted({1, 2, 3, 4}, 0.0) == 4


def test_a_held_version_that_is_gone_does_not_stop_the_service() -> None:
    versions = Versions(pinned=2, held=2)
    assert versions.wanted({3, 4}, 0.0) == 4
    versions.adopt(4)
    assert versions.wanted({3, 4, 5}, 0.0) is None, "no newer one is wanted while one is held"
    assert versions.wanted({2, 4, 5}, 0.0) == 2


def test_a_rejected_version_does_not_come_back_by_itself() -> None:
    versions = Versions(pinned=2)
    versions.adopt(3)
    versions.reject(3)
    versions.adopt(2)
    assert versions.wanted({2, 3}, 0.0) is None
    assert versions.wanted({2, 3, 4}, 0.0) == 4
    assert versions.wanted({3}, 0.0) == 3, "better than none"
    versions.release()
    assert versions.wanted({2, 3}, 0.0) == 3


def test_an_operator_may_want_a_rejected_version() -> None:
    versions = Versions(pinned=2)
    versions.reject(3)
    versions.hold(3)
    assert versions.wanted({2, 3}, 0.0) == 3
    versions.adopt(3)
    versions.reject(3)
    assert versions.held is None


@pytest.mark.parametrize(
    ("pinned", "available", "labelled", "wanted"),
    [
        (None, {1, 2}, 1, 1),
        (None, {1, 2}, None, None),  # nobody knows which one is meant: none begins
        (2, {1, 2, 3}, 2, None),  # a newer one is no news
        (2, {1, 2, 3}, 3, 3),
        (2, {1, 2, 3}, 1, 1),
        (2, {1, 2, 3}, None, None),
        (2, {1, 2, 3}, 4, None),  # not on all servers yet
        (2, {1, 3}, 1, 1),
        (2, {1, 3}, None, 3),  # the pinned one is gone: any is better than none
        (2, set(), 2, None),
    ],
)
def test_the_version_that_a_label_leads_to(
    pinned: int | None, available: set[int], labelled: int | None, wanted: int | None
) -> None:
    versions = Versions(by_label=True, pinned=pinned)
    assert versions.wanted(available, 0.0, labelled) == wanted


def test_a_labelled_version_that_was_rejected_or_refused_waits() -> None:
    versions = Versions(by_label=True, pinned=1)
    versions.reject(3)
    versions.refuse(2, now=0.0)
    assert versions.wanted({1, 2, 3}, 1.0, 3) is None
    assert versions.wanted({1, 2, 3}, 1.0, 2) is None
    assert versions.wanted({1, 2, 3}, 30.0, 2) == 2
    assert [versions.is_fit(version, 1.0) for version in (1, 2, 3)] == [True, False, False]
    versions.release()
    assert versions.wanted({1, 2, 3}, 1.0, 3) == 3


def test_an_operators_word_is_above_a_label() -> None:
    versions = Versions(by_label=True, pinned=2)
    versions.hold(1)
    assert versions.wanted({1, 2, 3}, 0.0, 3) == 1
    versions.adopt(1)
    assert versions.wanted({1, 2, 3}, 0.0, 3) is None


def test_only_a_label_leads_back() -> None:
    assert Versions(by_label=True, pinned=2).is_way_back(1)
    assert not Versions(by_label=True, pinned=2).is_way_back(3)
    assert not Versions(by_label=True).is_way_back(1)
    assert not Versions(pinned=2).is_way_back(1)
