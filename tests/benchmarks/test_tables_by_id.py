"""Requests by ad id in the benchmarks: all programs give the same scores; a table's lookups and memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from rich.console import Console

from benchmarks import ads, changing_ads
from benchmarks.bench import SPEC, Bench, Options
from benchmarks.first_load import catalogue
from benchmarks.peers.catalogue import KAFKA_STREAMS
from benchmarks.peers.scenario import installed
from benchmarks.table_memory import measure
from benchmarks.tables_by_id import PROGRAMS, TOPIC, check, process
from sandbox.broker.kafka import KafkaBroker
from sandbox.world.world import World

_ROOT = Path(__file__).parents[2]


def test_a_table_is_measured_in_all_processes_that_open_it() -> None:
    found = measure(World(seed=7, users=100, sites=20, ads=100), _ROOT / SPEC, ads=3_000, processes=2, lookups=10)
    assert found.used_bytes > 3_000 * found.row_bytes
    assert found.lookup_ms > 0
    assert len(found.opening_s) == 1
    # The processes share the pages, so their shares are the table, and not twice the table.
    assert 3_000 * found.row_bytes < found.pss_bytes < 1.1 * found.used_bytes


def test_ads_of_a_large_catalogue_have_their_own_values() -> None:
    world = World(seed=7, users=100, sites=20, ads=100)
    made = dict(catalogue(world, 250))
    assert len(made) == 250
    assert {orjson.loads(value)["creative"] for value in made.values()} == {f"cr-{2 * n}" for n in range(250)}
    assert all(orjson.loads(value)["ad_id"] == ad_id for ad_id, value in made.items())


@pytest.mark.slow  # the first run installs Kafka Streams
@pytest.mark.kafka
def test_every_program_gives_the_scorers_scores_by_id(kafka: KafkaBroker, tmp_path: Path) -> None:
    config = {"spec": str((_ROOT / SPEC).absolute()), "model": {"kind": "wide_deep", "embedding_stddev": 1.0}}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "model_training", "init", "--config", str(tmp_path / "model.yaml")]
    subprocess.run([*command, "--export-to", str(tmp_path / "models" / "ctr")], check=True, timeout=600)
    options = Options(candidates=20, out=tmp_path, seconds=2.0, rounds=1)
    with Bench(options, Console(quiet=True), kafka) as bench, ads.by_id(TOPIC) as overridden:
        ads.fill_topic(bench, TOPIC, zip(bench.world.ads.ids, bench.world.ads.json, strict=True))
        commands, missing = installed(bench, [KAFKA_STREAMS])
        names = [name for name, program in PROGRAMS.items() if program.module not in missing]
        runs = {
            name: [process(bench, name, 0, overridden=overridden, commands=commands, requests=32)] for name in names
        }
        check(runs)
        assert all(len(found.scores) == 32 for (found,) in runs.values())
        assert np.ptp(np.concatenate(list(runs["scorer"][0].scores.values()))) > 0.01
        turns = changing_ads.measure(bench, rate=20.0)
        assert all(turn.faults == 0 for of in turns.values() for turn in of)
        assert turns["quiet"][0].changes < 100 < turns["changing"][0].changes
