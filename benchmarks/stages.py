"""The CPU time of each stage of the scorer per request, with its sum beside the whole."""

import json
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from benchmarks import ads
from benchmarks.bench import UNHURRIED, Bench
from benchmarks.programs import CpuClock, follow
from benchmarks.report import Figure, write
from benchmarks.stage_names import shares
from sandbox.broker.topics import Topics
from sandbox.processes.scorer import ScorerProcess
from sandbox.world.bid_requests import CandidatesBy, RequestFactory

LAYOUTS: tuple[CandidatesBy, ...] = get_args(CandidatesBy)
TOPIC = "ads-stages"
OTHER_THREADS = "other threads (gRPC)"
_WRITTEN_S = 20.0


@dataclass(frozen=True, slots=True)
class Profile:
    """CPU microseconds per request: by stage while sampled, and `whole` without the sampler."""

    stages: Mapping[str, float]
    whole: float

    @property
    def sum(self) -> float:
        """Of all stages."""
        return sum(self.stages.values())


def run(bench: Bench) -> None:
    """Rows, columns and ids; the score cache is off."""
    figures = []
    ads.fill_topic(bench, TOPIC, zip(bench.world.ads.ids, bench.world.ads.json, strict=True))
    for layout in LAYOUTS:
        with ads.by_id(TOPIC) if layout == "id" else nullcontext(UNHURRIED) as overridden:
            found = _profile(bench, layout, overridden)
        figures += figures_of(layout, found)
        (bench.options.out / f"stages-{layout}.md").write_text(markdown(found, bench.options.candidates))
        show(bench.console, layout, found)
    settings = {
        "model_server": bench.server.version,
        "candidates": bench.options.candidates,
        "rounds": bench.options.rounds,
        "overridden": dict(UNHURRIED),
    }
    write("stages", figures, settings, bench.options.out)


def _profile(bench: Bench, layout: CandidatesBy, overridden: Mapping[str, object]) -> Profile:
    """Backlogs in turns, without and with the sampler, through one worker."""
    output, size = f"stages-{layout}", bench.backlog_size
    path = (bench.work / f"{output}.json").absolute()
    topics = Topics(f"{output}-in", output, f"{output}-dead")
    for topic in topics:
        bench.broker.create_topic(topic, 1)
    factory = RequestFactory(bench.world, candidates=bench.options.candidates, seed=5, layout=layout)
    settings = bench.settings(topics, [bench.server.address], overridden)
    command = ("-m", "benchmarks.sampled_worker", str(path))
    done, plain, content = 0, list[float](), dict[str, object]()
    with ScorerProcess(settings, bench.work / f"{output}.log", command=command) as scorer:
        clock = CpuClock(scorer.pid)

        def process() -> float:
            nonlocal done
            clock.restart()
            bench.fill(topics.requests, factory, size)
            done += size
            follow(scorer.pid, bench.bootstrap, output, done)
            return 1e6 * clock.spent_s() / size

        process()  # fills the memos
        for turn in range(bench.options.rounds):
            plain.append(process())
            os.kill(scorer.pid, signal.SIGUSR2)
            process()
            os.kill(scorer.pid, signal.SIGUSR2)
            content = _content(path, turn)
            path.rename(path.with_suffix(f".{turn}"))
    return profile_of(content, requests=size * bench.options.rounds, whole=statistics.median(plain))


def _content(path: Path, turn: int) -> dict[str, object]:
    end = time.monotonic() + _WRITTEN_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"the sampled worker wrote no {path} in round {turn}")
        time.sleep(0.05)
    content: dict[str, object] = json.loads(path.read_text())
    return content


def profile_of(content: Mapping[str, object], *, requests: int, whole: float) -> Profile:
    """The profile in the file of a sampled worker; `whole` as in `Profile`."""
    process_s, main_s, stacks = content["process_s"], content["main_thread_s"], content["stacks"]
    assert isinstance(process_s, float)
    assert isinstance(main_s, float)
    assert isinstance(stacks, dict)
    per_request = 1e6 / requests
    stages = {stage: share * main_s * per_request for stage, share in shares(Counter(stacks)).items() if share}
    return Profile({**stages, OTHER_THREADS: (process_s - main_s) * per_request}, whole)


def figures_of(layout: str, profile: Profile) -> list[Figure]:
    """A figure for each stage, the sum and the whole."""
    named = {**profile.stages, "sum": profile.sum, "whole": profile.whole}
    return [Figure(f"{layout}, {stage}", value, "us") for stage, value in named.items()]


def markdown(profile: Profile, candidates: int) -> str:
    """The table for a page."""
    lines = [f"| stage | µs per {candidates} candidates | share |", "|---|---|---|"]
    lines += [f"| {stage} | {us:.0f} | {us / profile.sum:.0%} |" for stage, us in profile.stages.items()]
    lines += [f"| **sum** | {profile.sum:.0f} | |", f"| **whole**, without the sampler | {profile.whole:.0f} | |"]
    return "\n".join(lines) + "\n"


def show(console: Console, layout: str, profile: Profile) -> None:
    """Prints the table."""
    table = Table("stage", "us per request", "share", title=f"stages, {layout}", title_justify="left", box=None)
    for stage, us in profile.stages.items():
        table.add_row(stage, f"{us:.0f}", f"{us / profile.sum:.1%}")
    table.add_row("sum", f"{profile.sum:.0f}", "")
    table.add_row("whole, without the sampler", f"{profile.whole:.0f}", "")
    console.print(table)
