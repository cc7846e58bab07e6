"""Sampled stacks and their stages, and the ratio at the end of the fast tests."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import guard, stages
from benchmarks.stage_names import REST, RULES, STAGES, shares, stage_of

_TASK = "asyncio/runners.py:Runner.run < streamer/commands/run.py:run_alone"
_PIPELINE = f"streamer/pipeline.py:Pipeline._score < streamer/pipeline.py:Pipeline.answer < {_TASK}"
_ENCODE = f"streamer/features/encoder.py:Encoder.encode < streamer/pipeline.py:Pipeline._encode < {_PIPELINE}"


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        (f"streamer/codec.py:Codec.decode < {_PIPELINE}", "decode"),
        (f"streamer/codec.py:encode_scores < streamer/pipeline.py:Pipeline._publish < {_PIPELINE}", "answer encoding"),
        (f"prometheus_client/metrics.py:Counter.inc < streamer/metrics.py:Metrics.answered < {_PIPELINE}", "metrics"),
        (f"streamer/features/side.py:SideEncoder._ids < {_ENCODE}", "request side"),
        (f"streamer/features/encoder.py:Encoder._encode_columns < {_ENCODE}", "candidates"),
        (
            f"streamer/features/hashing.py:mix64 < streamer/features/pairs.py:PythonJoiner.__call__ < {_ENCODE}",
            "crosses and keys",
        ),
        (_ENCODE, "crosses and keys"),
        (f"streamer/scoring/cache.py:ScoreCache.lookup < streamer/scoring/scores.py:Scores.score < {_TASK}", "cache"),
        (f"streamer/scoring/dispatcher.py:Dispatcher._pump < {_TASK}", "dispatch"),
        (
            "streamer/serving/messages.py:predict_request < streamer/serving/predictor.py:Predictor._call",
            "message build",
        ),
        (f"grpc/aio/_call.py:UnaryUnaryCall._invoke < {_TASK}", "gRPC client"),
        (f"streamer/kafka/offsets.py:OffsetTracker.acknowledged < {_PIPELINE}", "commit"),
        (f"aiokafka/producer/sender.py:Sender._sender_routine < {_TASK}", "produce"),
        (f"aiokafka/consumer/fetcher.py:Fetcher._proc_fetch_request < {_TASK}", "fetch"),
        (_PIPELINE, "pipeline"),
        (_TASK, REST),
    ],
)
def test_a_stack_belongs_to_the_stage_of_its_innermost_known_function(stack: str, stage: str) -> None:
    assert stage_of(stack) == stage
    assert stage in STAGES


def test_every_rule_names_a_stage_of_the_path() -> None:
    assert {stage for stage, _ in RULES} | {REST} == set(STAGES)


def test_shares_add_up_to_the_whole() -> None:
    found = shares({_TASK: 3, _PIPELINE: 1})
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["pipeline"] == 0.25
    assert sum(shares({}).values()) == 0.0


def test_a_profile_adds_the_other_threads_and_stands_beside_the_whole() -> None:
    content = {"process_s": 0.2, "main_thread_s": 0.15, "stacks": {_PIPELINE: 30, _TASK: 10}}
    profile = stages.profile_of(content, requests=100, whole=1900.0)
    assert profile.stages == pytest.approx({"pipeline": 1125.0, REST: 375.0, stages.OTHER_THREADS: 500.0})
    assert profile.sum == pytest.approx(2000.0)
    text = stages.markdown(profile, 300)
    assert "| pipeline | 1125 | 56% |" in text
    assert text.endswith("| **sum** | 2000 | |\n| **whole**, without the sampler | 1900 | |\n")


def test_the_ratio_is_measured_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    scorer, floor = asyncio.run(guard.measure(candidates=10, requests=4, rounds=1))
    assert scorer > 0
    assert floor > 0
