"""The synthetic world: its skew, its click probabilities, and the logs drawn from it."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.linear_model import LogisticRegression

from sandbox.world.clicks import auc, draw_clicks
from sandbox.world.truth import interaction
from sandbox.world.world import DrawnLog, World
from streamer.features import Cross, FeatureSpec
from tests.sandbox.world.small import small_world

_SPEC = Path(__file__).parents[3] / "configs" / "features" / "reference.yaml"
_DIGEST = """
import hashlib, numpy as np
from sandbox.world.world import World
world = World(3, users=50, sites=10, ads=40)
users, contexts = world.draw_requests(np.random.default_rng(5), 20)
ctr = world.true_ctrs(users, contexts, world.draw_shown(np.random.default_rng(6), 20, 4))
parts = [*world.ads.json, *world.users.json, *contexts.json, np.round(ctr, 9).tobytes()]
print(hashlib.sha256(b"".join(parts)).hexdigest())
"""


def _digest(seed: int) -> str:
    world = World(seed, users=50, sites=10, ads=40)
    users, contexts = world.draw_requests(np.random.default_rng(5), 20)
    ctr = world.true_ctrs(users, contexts, world.draw_shown(np.random.default_rng(6), 20, 4))
    parts = [*world.ads.json, *world.users.json, *contexts.json, np.round(ctr, 9).tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> DrawnLog:
    return World(7, users=3_000, sites=300, ads=1_000).draw_log(tmp_path_factory.mktemp("log") / "log.jsonl", 6_000)


def _lines(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [orjson.loads(line) for line in content.splitlines()]


def test_a_seed_gives_one_world_in_every_process() -> None:
    other = subprocess.run([sys.executable, "-c", _DIGEST], capture_output=True, text=True, check=True, timeout=120)
    assert other.stdout.strip() == _digest(3)
    assert _digest(4) != _digest(3)


def test_users_and_candidates_are_zipf_skewed() -> None:
    world = small_world()
    rng = np.random.default_rng(0)
    ads = np.bincount(world.draw_shown(rng, 20_000, 4).ravel(), minlength=600)
    users = np.bincount(world.draw_requests(rng, 20_000)[0], minlength=400)
    for counts, least in ((ads, 0.35), (users, 0.3)):
        assert counts[: len(counts) // 10].sum() / counts.sum() > least
        ranks = np.arange(5, 200)
        slope = np.polyfit(np.log(ranks), np.log(counts[5:200] + 1.0), 1)[0]
        assert -1.0 < slope < -0.45


@pytest.mark.parametrize("n", [1, 7, 60, 300, 600])
def test_candidates_are_distinct_ads(n: int) -> None:
    drawn = small_world().draw_candidates(np.random.default_rng(n), n)
    assert len(drawn) == n
    assert len(set(drawn.tolist())) == n
    assert drawn.min() >= 0
    assert drawn.max() < 600


@pytest.mark.parametrize("shown", [1, 4, 16, 20])
def test_shown_ads_are_distinct_within_a_request(shown: int) -> None:
    drawn = small_world().draw_shown(np.random.default_rng(0), 300, shown)
    assert drawn.shape == (300, shown)
    assert all(len(set(row)) == shown for row in drawn.tolist())


def test_both_ways_to_draw_candidates_have_the_same_popularity() -> None:
    """Few are drawn one by one, many by Gumbel's trick: the first follows popularity in both."""
    world = small_world()
    rng = np.random.default_rng(1)
    for n in (60, 100):
        firsts = np.array([world.draw_candidates(rng, n)[0] for _ in range(4_000)])
        for top in (1, 10, 100):
            share = float(world.ads.weights[:top].sum())
            assert abs((firsts < top).mean() - share) < 5 * np.sqrt(share * (1 - share) / 4_000)


def test_more_candidates_than_ads_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"601 candidates .* 600 ads"):
        small_world().draw_candidates(np.random.default_rng(0), 601)


def test_every_feature_of_the_reference_spec_has_values(tmp_path: Path) -> None:
    """Every path has a value, and every numeric feature has values within its buckets' range."""
    spec = FeatureSpec.from_yaml(_SPEC)
    drawn = small_world().draw_log(tmp_path / "log.jsonl.gz", 200)
    lines = _lines(drawn.path)
    for feature in spec.features:
        if isinstance(feature, Cross):
            continue
        steps = feature.path.split(".")
        found = []
        for line in lines:
            for document in line["candidates"] if feature.side == "candidate" else [line["request"]]:
                value = document
                for step in steps:
                    value = value.get(step) if isinstance(value, dict) else None
                found.append(value)
        present = [v for v in found if v not in (None, [], "")]
        least = 0.2 if feature.name in {"site", "app", "recent_categories"} else 1.0
        assert len(present) >= least * len(found), feature.name
        assert len({orjson.dumps(v) for v in present}) > 1, feature.name
        vocabulary = getattr(feature, "vocabulary", ())
        assert not vocabulary or {str(v) for v in present} <= set(vocabulary), feature.name


def test_a_log_has_the_shown_ads_and_the_clicks(tmp_path: Path) -> None:
    world = small_world()
    drawn = world.draw_log(tmp_path / "new folder" / "log.jsonl", 300, shown=3, start_ms=1_700_000_000_000, days=2)
    lines = _lines(drawn.path)
    assert len(lines) == 300
    times = [line["timestamp_ms"] for line in lines]
    assert times == sorted(times)
    assert times[0] >= 1_700_000_000_000
    assert times[-1] < 1_700_000_000_000 + 2 * 86_400_000
    for line, user, ads, clicked in zip(lines, drawn.users, drawn.ads, drawn.clicked, strict=True):
        assert set(line) == {"timestamp_ms", "request", "candidates", "clicked"}
        assert line["request"]["user"]["id"] == world.users.ids[user]
        assert [c["ad_id"] for c in line["candidates"]] == [world.ads.ids[i] for i in ads]
        assert line["clicked"] == clicked.tolist()


def test_logs_are_reproducible_by_seed(tmp_path: Path) -> None:
    world = small_world()
    plain = world.draw_log(tmp_path / "a.jsonl", 50, seed=1)
    again = world.draw_log(tmp_path / "b.jsonl.gz", 50, seed=1)
    other = world.draw_log(tmp_path / "c.jsonl", 50, seed=2)
    assert plain.path.read_bytes() == gzip.decompress(again.path.read_bytes())
    assert plain.path.read_bytes() != other.path.read_bytes()


def test_one_request_and_many_have_the_same_truth() -> None:
    world = small_world()
    rng = np.random.default_rng(2)
    users, contexts = world.draw_requests(rng, 5)
    ads = world.draw_shown(rng, 5, 6)
    together = world.true_ctrs(users, contexts, ads)
    assert together.dtype == np.float64
    assert np.all((together > 0) & (together < 1))
    for i in range(5):
        assert np.array_equal(world.true_ctr(int(users[i]), contexts.one(i), ads[i]), together[i])


def test_an_interaction_has_no_effect_of_lower_order() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.dirichlet(np.ones(n)) for n in (3, 4, 5))
    table = interaction(rng.standard_normal((3, 4, 5)), 0.7, a, b, c)
    for axis, weights in enumerate((a, b, c)):
        assert np.allclose(np.average(table, axis=axis, weights=weights), 0.0)
    assert np.sqrt(np.einsum("ijk,i,j,k", table**2, a, b, c)) == pytest.approx(0.7)


def test_clicks_follow_the_truth(log: DrawnLog) -> None:
    assert 0.05 < log.clicked.mean() < 0.08
    error = np.sqrt((log.ctr * (1 - log.ctr)).sum())
    assert abs(log.clicked.sum() - log.ctr.sum()) < 5 * error
    assert 0.77 < log.bayes_auc < 0.84


def test_a_model_without_crosses_is_clearly_worse_than_the_truth() -> None:
    """A logistic regression with every attribute that has a main effect, and no other feature."""
    world = World(7, users=2_000, sites=200, ads=1_000)
    rng = np.random.default_rng(0)
    requesters, contexts = world.draw_requests(rng, 10_000)
    shown = world.draw_shown(rng, 10_000, 4)
    ctr = world.true_ctrs(requesters, contexts, shown)
    clicked = draw_clicks(rng, ctr).ravel()
    user, slot, hour, ad = (
        np.repeat(requesters, 4),
        np.repeat(contexts.slot, 4),
        np.repeat(contexts.hour, 4),
        shown.ravel(),
    )
    users, slots, ads = world.users, world.slots, world.ads
    codes = [
        *(c[user] for c in (users.gender, users.age_band, users.device_type, users.country, users.click_band)),
        *(c[slot] for c in (slots.page_category, slots.position, slots.slot_format)),
        *(c[ad] for c in (ads.category, ads.theme, ads.creative_format, ads.goal, ads.advertiser)),
        hour,
    ]
    numbers = (np.log(users.ctr + 0.01)[user], slots.viewability[slot], np.log(ads.ctr)[ad])
    matrix = np.hstack([*(np.eye(c.max() + 1, dtype=np.float32)[c] for c in codes), np.stack(numbers, axis=1)])
    train = len(clicked) * 3 // 4
    model = LogisticRegression(C=0.1, solver="liblinear", tol=0.01).fit(matrix[:train], clicked[:train])
    learnt = auc(clicked[train:], model.decision_function(matrix[train:]))
    bayes = auc(clicked[train:], ctr.ravel()[train:])
    assert 0.64 < learnt < 0.75
    assert 0.77 < bayes < 0.84
    assert bayes - learnt > 0.03
