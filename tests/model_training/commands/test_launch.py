"""Whole distributed runs on TensorFlow's own runtime, each role in its own process."""

import os
import re
import select
import signal
from pathlib import Path

import pytest
import tensorflow as tf
from typer.testing import CliRunner

from model_training.commands import app
from model_training.data.click_log import encode_log, read_log
from model_training.data.records import encode_table, write_records
from streamer.features import Encoder, FeatureSpec
from tests.model_training.conftest import SPEC, click_log
from tests.model_training.launched import WAIT_SECONDS, launched, pids, until, write_config

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(
        tmp_path,
        model={"kind": "wide_deep", "hidden_units": [8]},
        batch_size=32,
        shuffle_buffer=1000,
        distributed={"table_shards": 4, "checkpoint_seconds": 1},
    )


def test_a_role_needs_records_and_checkpoints(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "TF_CONFIG", '{"cluster": {"ps": ["a:1"], "chief": ["b:1"]}, "task": {"type": "chief", "index": 0}}'
    )
    result = CliRunner().invoke(app, ["train", "--config", str(config)])
    assert result.exit_code == 2
    assert "TF_CONFIG is set: --records and --checkpoints are needed" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--log, --prepared or --records: one is needed"),
        (("--mode", "async", "--backup", "1"), "mode 'async' waits for no process"),
        (("--backup", "-1"), "distributed.backup_workers: Input should be greater than or equal to 0"),
        (("--records", "absent"), "manifest.json: cannot be read"),
        (("--mode", "mirrored", "--backup", "1"), "mode 'mirrored' waits for all"),
        (("--mode", "mirrored", "--ps", "1"), "mode 'mirrored' uses no parameter servers, but there are 1"),
        (("--ps", "0"), "mode 'sync' needs a parameter server (ps); without one, use mode 'mirrored'"),
    ],
)
def test_an_impossible_launch_is_rejected_before_a_process_starts(
    config: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = CliRunner().invoke(app, ["launch", "--config", str(config), *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_more_backups_than_workers_are_rejected(
    tmp_path: Path, config: Path, spec: FeatureSpec, encoder: Encoder
) -> None:
    columns = {"hour": ["1", "2"], "ad": ["a", "b"]}
    write_records(encode_table(columns, [0, 1], encoder), tmp_path / "records", spec)
    arguments = ["--records", str(tmp_path / "records"), "--workers", "2", "--backup", "2"]
    result = CliRunner().invoke(app, ["launch", "--config", str(config), *arguments])
    assert result.exit_code == 2
    assert "distributed.backup_workers 2: must be less than the 2 computing" in result.output


def test_unusable_records_are_rejected_in_one_line(
    tmp_path: Path, config: Path, spec: FeatureSpec, encoder: Encoder
) -> None:
    def rejection(name: str, labels: list[int], own: FeatureSpec = spec, *, damage: bool = False) -> str:
        columns = {"hour": ["1"] * len(labels), "ad": ["a"] * len(labels)}
        manifest = write_records(encode_table(columns, labels, encoder), tmp_path / name, own)
        if damage:
            (tmp_path / name / manifest.shards[1].file).write_bytes(b"")
        result = CliRunner().invoke(app, ["launch", "--config", str(config), "--records", str(tmp_path / name)])
        assert result.exit_code == 2
        (line,) = result.output.strip().splitlines()
        return line

    other = FeatureSpec.from_mapping(SPEC | {"embedding_dim": 5})
    assert "0 clicks among 4 examples: both classes are needed" in rejection("one class", [0, 0, 0, 0])
    assert "do not fit spec 'small'" in rejection("other", [0, 1, 0, 1], other)
    assert "records-00001-of-00004.tfrecord" in rejection("damaged", [0, 1, 0, 1], damage=True)


def test_damaged_shards_within_the_limit_are_named(
    tmp_path: Path, config: Path, spec: FeatureSpec, encoder: Encoder
) -> None:
    with config.open("a", encoding="utf-8") as file:
        file.write("max_lost_share: 0.3\n")
    columns = {"hour": ["1"] * 8, "ad": ["a"] * 8}
    manifest = write_records(encode_table(columns, [0, 0, 0, 0, 1, 1, 1, 1], encoder), tmp_path / "records", spec)
    (tmp_path / "records" / manifest.shards[1].file).unlink()
    arguments = ["--records", str(tmp_path / "records"), "--workers", "1", "--backup", "1"]
    result = CliRunner().invoke(app, ["launch", "--config", str(config), *arguments])
    assert result.exit_code == 2
    assert "lost 2 examples in damaged shards: records-00001-of-00004.tfrecord" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("mode", [("--mode", "async", "--ps", "1"), ("--mode", "mirrored")], ids=["async", "mirrored"])
def test_a_run_is_without_the_damaged_shard_in_all_processes(
    tmp_path: Path, config: Path, encoder: Encoder, spec: FeatureSpec, mode: tuple[str, ...]
) -> None:
    log = click_log(tmp_path / "log.jsonl", 400)
    with config.open("a", encoding="utf-8") as file:
        file.write("max_lost_share: 0.3\n")
    records, checkpoints = tmp_path / "records", tmp_path / "checkpoints"
    manifest = write_records(encode_log(read_log(log), encoder), records, spec)
    (records / manifest.shards[1].file).write_bytes(b"")
    arguments: list[str | Path] = ["--config", config, "--records", records, *mode, "--checkpoints", checkpoints]
    with launched(*arguments) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert output.count("lost 300 examples in damaged shards") == 1
    assert " step 29/29" in output or " step 15/15" in output, output


def test_the_placement_of_the_reference_model_is_balanced() -> None:
    result = CliRunner().invoke(app, ["placement", "--config", "configs/models/wide_deep.yaml", "--ps", "4"])
    assert result.exit_code == 0, result.output
    ratios = [float(value) for value in re.findall(r"(\d\.\d{3})\s*│", result.output)]
    whole_in_turn, whole, in_turn, balanced = ratios
    assert balanced <= 1.1
    assert balanced <= min(whole, in_turn, whole_in_turn)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (("--mode", "sync"), "85 steps of 2 × 32 examples"),
        (("--mode", "sync", "--backup", "1"), "169 steps of 1 × 32 examples"),
        (("--mode", "async"), "169 steps of 1 × 32 examples"),
    ],
    ids=["sync", "backup", "one_by_one"],
)
def test_a_run_ends_and_its_model_becomes_a_version(
    tmp_path: Path, config: Path, log: Path, mode: tuple[str, ...], expected: str
) -> None:
    base, checkpoints = tmp_path / "models" / "small", tmp_path / "checkpoints"
    with launched(
        *("--config", config, "--log", log, "--ps", "1", "--workers", "2", "--export-to", base),
        *mode,
        *("--checkpoints", checkpoints),
    ) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert expected in " ".join(output.split())
    assert "Traceback" not in output
    assert re.search(r"chief step (\d+)/\1, loss 0\.\d+", output), output
    assert "wide_deep" in output
    (events,) = checkpoints.glob("events.out.tfevents.*")
    reported = [
        value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value
    ]
    assert "loss" in reported
    found = tf.saved_model.load(str(base / "1"))
    assert set(found.signatures) == {"serving_default", "score", "feature_spec", "feature_spec_rest"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("holder", "servers", "backups"), [("chief", 1, 1), ("ps", 2, 0)], ids=["chief_backup", "ps_no_backup"]
)
def test_a_run_survives_the_death_of_a_worker_a_server_and_the_chief(
    tmp_path: Path, config: Path, holder: str, servers: int, backups: int
) -> None:
    config.write_text(config.read_text(encoding="utf-8") + "epochs: 400\n", encoding="utf-8")
    log, checkpoints = click_log(tmp_path / "log.jsonl", 200), tmp_path / "checkpoints"
    arguments = (
        *("--config", config, "--log", log, "--ps", str(servers), "--workers", "2", "--backup", str(backups)),
        *("--checkpoints", checkpoints),
    )
    said: list[str] = []
    with launched(*arguments) as process:
        for role, follows in (
            ("worker", "worker 0 killed by SIGKILL; it is restarted"),
            (holder, "killed by SIGKILL; all processes are restarted from the last checkpoint"),
        ):
            until(process, r"chief step ([\d,]+)/", said)
            os.kill(pids(process.pid, role)[-1], signal.SIGKILL)
            until(process, follows, said)
        # The chief reports less often than it saves, so the last checkpoint is not the first, untrained one.
        assert int(until(process, r"chief continues from \S+-(\d+)$", said)[1]) > 0
        until(process, r"chief step ([\d,]+)/", said)
        children = pids(process.pid)
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    whole = "".join(said) + output
    assert process.returncode == 0, whole
    assert "Traceback" not in whole
    assert len(children) == servers + 2
    assert not _alive(children)
    assert tf.train.latest_checkpoint(str(checkpoints)).endswith(f"-{400 * 540 // (32 * (2 - backups))}")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "mirrored"])
def test_a_run_begins_with_the_model_of_another_one(tmp_path: Path, config: Path, mode: str) -> None:
    log, run = click_log(tmp_path / "log.jsonl", 200), tmp_path / "single"
    ended = CliRunner().invoke(
        app, ["train", "--config", str(config), "--log", str(log), "--checkpoints", str(run), "--export-to", str(run)]
    )
    assert ended.exit_code == 0, ended.output
    first = float(re.findall(r"log loss (0\.\d+)", ended.output)[0])
    with launched(
        *("--config", config, "--log", log, "--workers", "2", "--mode", mode, "--warm-start", run / "1"),
        *("--checkpoints", tmp_path / "run"),
    ) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert f"chief begins with the weights of {run / '1'}; kept: user, tags" in output
    assert output.count("no steps: an earlier run has made all of them") == 0
    losses = [float(loss) for loss in re.findall(r"chief step \d+/\d+, loss (0\.\d+)", output)]
    assert losses[0] < first + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_one_line(tmp_path: Path, config: Path, number: signal.Signals) -> None:
    config.write_text(config.read_text(encoding="utf-8") + "epochs: 400\n", encoding="utf-8")
    log, said = click_log(tmp_path / "log.jsonl", 200), list[str]()
    with launched("--config", config, "--log", log, "--ps", "1", "--workers", "2") as process:
        until(process, r"worker 0 takes part, at step \d", said)
        children = pids(process.pid)
        process.send_signal(number)
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 2
    last = [line for line in output.splitlines() if " chief step " not in line]
    assert last == ["error: stopped by a signal before the end of the training"], output
    assert len(children) == 3
    assert not _alive(children)


@pytest.mark.slow
def test_the_processes_of_a_killed_launcher_end(tmp_path: Path, config: Path) -> None:
    config.write_text(config.read_text(encoding="utf-8") + "epochs: 400\n", encoding="utf-8")
    log, said = click_log(tmp_path / "log.jsonl", 200), list[str]()
    with launched("--config", config, "--log", log, "--ps", "1", "--workers", "2") as process:
        until(process, r"worker 0 takes part, at step \d", said)
        ends = [os.pidfd_open(child) for child in pids(process.pid)]
        process.kill()
        for end in ends:
            assert select.select([end], [], [], 30.0)[0], "a process continues without its launcher"
            os.close(end)
    assert len(ends) == 3


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
