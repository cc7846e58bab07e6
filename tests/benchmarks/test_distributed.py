"""The figures of distributed training, and the program that slows a worker down."""

import math
import os
import re
import signal
import subprocess
import sys

import pytest

from benchmarks.distributed import MODES, STRAGGLING, Trained, auc_noise, figures_of, placement_figures
from benchmarks.training_runs import Listener
from model_training.distributed.cluster import Task

_CHIEF, _ONE, _TWO = Task("chief", 0), Task("worker", 0), Task("worker", 1)
_SPREAD = [0.70, 0.71, 0.72, 0.71, 0.71]


def _runs(rate: float, auc: float) -> list[Trained]:
    return [Trained(rate / 256, rate, auc, running_share=0.2)] * 3


def test_modes_are_compared_with_single_processes_and_stragglers_with_their_mode() -> None:
    runs = {name: _runs(1000.0, 0.715) for name in MODES} | {"async": _runs(2000.0, 0.60)}
    runs |= {"sync_straggler": _runs(300.0, 0.7), "backup_straggler": _runs(900.0, 0.7)}
    single = {name: [Trained(1.0, 5000.0, auc) for auc in _SPREAD] for name in MODES}
    figures = {figure.name: figure for figure in figures_of(runs, single)}
    assert figures["sync_auc_difference"].value == pytest.approx(0.005)
    assert figures["sync_auc_difference"].holds
    assert not figures["async_auc_difference"].holds
    assert figures["sync_kept_with_straggler"].value == pytest.approx(0.3)
    assert figures["sync_kept_with_straggler"].holds is None
    assert figures["backup_kept_with_straggler"].holds
    assert figures["straggler_runs"].value == pytest.approx(0.2)
    assert len(figures) == 6 * len(MODES) + 4 * len(STRAGGLING) + 1


def test_noise_is_the_difference_of_means_of_equal_variance() -> None:
    squares = 2 * 0.01**2 + 2 * 0.02**2
    expected = 2.447 * math.sqrt(squares / 6 * (1 / 5 + 1 / 3))  # Student's t with six degrees of freedom
    assert auc_noise(_SPREAD, [0.74, 0.72, 0.70]) == pytest.approx(expected, rel=1e-3)
    assert auc_noise(_SPREAD, [0.6]) == pytest.approx(2.776 * math.sqrt(2 * 0.01**2 / 4 * (1 / 5 + 1)), rel=1e-3)


def test_only_our_own_placement_has_a_bound() -> None:
    figures = placement_figures({2: {"greedy": 1.05, "in_turn": 1.4}, 4: {"greedy": 1.2}})
    assert [(figure.name, figure.holds) for figure in figures] == [
        ("bytes_2_servers_greedy", True),
        ("bytes_2_servers_in_turn", None),
        ("bytes_4_servers_greedy", False),
    ]


def test_speed_counts_once_all_workers_take_part() -> None:
    heard = Listener(workers=2)
    for now, task, line in (
        (0.0, _CHIEF, "step 1/1,000, loss 0.7000, first after 9 s"),
        (1.0, _ONE, "takes part, at step 5"),
        (2.0, _CHIEF, "step 90/1,000, loss 0.6000, 500 examples/s, 0:10 left"),
        (3.0, _TWO, "takes part, at step 95"),
    ):
        heard.hear(task, line, now)
    heard.hear(_CHIEF, "step 100/1,000, loss 0.6000, 500 examples/s, 0:10 left", 4.0)
    assert math.isnan(heard.steps_per_second)
    heard.hear(_CHIEF, "step 400/1,000, loss 0.6000, 500 examples/s, 0:10 left", 7.0)
    heard.hear(_CHIEF, "step 1,000/1,000, loss 0.5000, 500 examples/s", 10.0)
    assert heard.steps_per_second == 150.0
    heard.hear(_TWO, "slowed: ran 0.201 of the time", 11.0)
    assert heard.running_share == 0.201


def _slowed(*arguments: str, program: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.slowed", *arguments, "--", sys.executable, "-c", program]


def test_a_slowed_program_gets_its_share_of_the_time_after_it_printed_the_words() -> None:
    works = """
import time
def work(seconds):
    while time.process_time() < seconds: pass
work(0.3)
print("now", flush=True)
started, before = time.monotonic(), time.process_time()
work(before + 0.1)
print((time.process_time() - before) / (time.monotonic() - started))
raise SystemExit(3)
"""
    command = _slowed("--times", "5", "--after", "now", program=works)
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 3, found.stderr
    now, used, share = found.stdout.splitlines()
    assert now == "now"
    # It runs at full speed until the other program has read the word.
    assert float(used) < 0.4
    (ran,) = re.findall(r"slowed: ran (\d\.\d+) of the time", share)
    assert float(ran) == pytest.approx(0.2, abs=0.05)


def test_a_slowed_program_ends_with_the_one_that_slows_it() -> None:
    program = "import os; print(os.getpid(), flush=True)\nwhile True: pass"
    with subprocess.Popen(_slowed("--times", "50", program=program), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        slowed = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(slowed, 0)
