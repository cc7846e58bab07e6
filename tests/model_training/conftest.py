"""A small spec with every kind of column, and random logs with a known truth."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from streamer.features import Encoder, FeatureSpec

if TYPE_CHECKING:
    from model_training.identity import RunIdentity

SPEC = {
    "name": "small",
    "embedding_dim": 4,
    "features": [
        {"name": "user", "path": "user.id", "side": "user", "kind": "categorical", "buckets": 50, "deep": True},
        {"name": "tags", "path": "user.tags", "side": "user", "kind": "multi_valued", "buckets": 30, "max_values": 3,
         "wide": True, "deep": True},
        {"name": "likes", "path": "user.likes", "side": "user", "kind": "multi_valued", "buckets": 30, "max_values": 2,
         "pooling": "sum", "deep": True},
        {"name": "hour", "path": "context.hour", "side": "context", "kind": "categorical", "buckets": 26,
         "wide": True, "deep": True},
        {"name": "age", "path": "user.age", "side": "user", "kind": "numeric", "mean": 40, "std": 10,
         "wide": True, "deep": True},
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 60,
         "wide": True, "deep": True},
        {"name": "bid", "path": "bid", "side": "candidate", "kind": "numeric", "wide": True},
        {"name": "size", "path": "size", "side": "candidate", "kind": "numeric", "deep": True},
        {"name": "hour_x_ad", "kind": "cross", "of": ["hour", "ad"], "buckets": 400, "wide": True},
        {"name": "tags_x_ad", "kind": "cross", "of": ["tags", "ad"], "buckets": 200, "wide": True, "deep": True},
    ],
}  # fmt: skip


@pytest.fixture(scope="session")
def spec() -> FeatureSpec:
    return FeatureSpec.from_mapping(SPEC)


@pytest.fixture
def encoder(spec: FeatureSpec) -> Encoder:
    return Encoder(spec)


def claim(directory: Path, identity: "RunIdentity") -> str | None:
    """Takes a folder of checkpoints for a run that ends at once."""
    from model_training.checkpoints import claimed  # noqa: PLC0415 - loads TensorFlow

    with claimed(directory, identity) as last:
        return last


def click_log(path: Path, requests: int, *, seed: int = 1) -> Path:
    """A log with three shown ads per request; a click is likely if hour and ad agree modulo 3."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(requests):
        hour, ads = int(rng.integers(0, 9)), rng.integers(0, 12, size=3)
        odds = np.where((ads + hour) % 3 == 0, 0.6, 0.1)
        lines.append(
            orjson.dumps(
                {
                    "timestamp_ms": i,
                    "request": {
                        "user": {"id": f"u{rng.integers(0, 40)}", "tags": ["a", "b", "c"][: i % 4], "age": 20 + i % 40},
                        "context": {"hour": hour},
                    },
                    "candidates": [{"ad_id": f"ad{ad}", "bid": 0.5, "size": 1.0} for ad in ads.tolist()],
                    "clicked": (rng.random(3) < odds).astype(int).tolist(),
                }
            )
        )
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return click_log(tmp_path_factory.mktemp("log") / "log.jsonl", 2000)
