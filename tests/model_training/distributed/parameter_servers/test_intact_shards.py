"""The chief checks the records; the other processes of the run drop the same shards."""

from dataclasses import replace
from pathlib import Path

import pytest

from model_training.config.training import TrainingConfig
from model_training.data.manifest import Manifest, Shard
from model_training.distributed.parameter_servers.intact_shards import with_intact_shards
from model_training.distributed.run import Run
from streamer.features import FeatureSpec
from tests.model_training.distributed.parameter_servers.in_process import started

pytestmark = pytest.mark.tensorflow


def test_a_worker_drops_the_shards_that_the_chief_found_damaged(spec: FeatureSpec) -> None:
    shards = tuple(Shard(f"shard-{i}", 10, i, "") for i in range(3))
    whole = Manifest(spec.name, spec.hash, 30, 3, 1, 1, 1.0, shards, "", 64)
    intact = whole.without(frozenset({"shard-1"}))
    cluster, servers = started(servers=1, computing=2)
    chief, worker = cluster.computing
    config = TrainingConfig.model_validate({"spec": "unused", "model": {"kind": "logistic_regression"}})
    # The folder has no shard: only the chief reads one, to check it.
    run = Run(cluster, worker, config, spec, Path("absent"), whole, Path("absent"))
    with_intact_shards(replace(run, task=chief, manifest=intact), servers[chief])
    for _ in range(2):  # a worker that is restarted asks again
        assert with_intact_shards(run, servers[worker]).manifest == intact
