"""Changes of the world's ads."""

import orjson

from sandbox.world.ad_changes import AdChange, AdChanges
from tests.sandbox.world.small import small_world


def test_ads_change_go_and_come() -> None:
    world, changes = small_world(), AdChanges(small_world())
    present = {change.ad: change.value for change in changes.catalogue()}
    assert len(present) == 594
    assert all(value == world.ads.json[ad] for ad, value in present.items())
    deleted = added = 0
    for _ in range(1_000):
        change = changes.next()
        assert change.key.decode() == world.ads.ids[change.ad]
        if change.value is None:
            deleted += 1
            del present[change.ad]
            continue
        added += change.ad not in present
        before, now = orjson.loads(present.get(change.ad) or change.value), orjson.loads(change.value)
        differing = {name for name in now if now[name] != before[name]}
        assert differing <= {"bid", "age_days", "creative", "product"}
        assert bool(differing) == (change.ad in present)
        present[change.ad] = change.value
    assert 5 < deleted < 50
    assert 5 < added < 50


def test_the_stream_is_reproducible() -> None:
    def some() -> list[AdChange]:
        changes = AdChanges(small_world(), seed=3)
        return [changes.next() for _ in range(50)]

    assert some() == some()
