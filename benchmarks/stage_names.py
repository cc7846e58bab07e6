"""Assigns a sampled stack of the scorer to a stage of a request. Pure."""

import re
from collections import Counter
from collections.abc import Mapping

Stack = str
"""The functions of a stack, the innermost first: `file:qualified name` joined with ` < `."""
REST = "event loop, sockets and the rest"
# The first rule with a match names the stage, so a rule stands before those of its callers.
RULES: tuple[tuple[str, str], ...] = (
    ("metrics", r"streamer/metrics\.py|prometheus_client/"),
    ("answer encoding", r"codec\.py:encode_scores|formats/answers"),
    ("decode", r"streamer/codec\.py|streamer/formats/"),
    ("candidates", r"Memo\w*\.|CandidateRows|CandidateColumns|CandidatesById|streamer/tables/|_encode_columns"),
    ("crosses and keys", r"features/pairs\.py"),
    ("request side", r"features/(?!encoder)\S* < .*encoder\.py:Encoder\.encode|features/consent"),
    ("crosses and keys", r"features/encoder\.py"),
    ("cache", r"scoring/cache\.py"),
    ("priors", r"scoring/priors\.py"),
    ("message build", r"messages\.py:(?:score_request|predict_request)|batching\.py:(?:Batch\.inputs|_concatenate)"),
    ("reply parse", r"serving/messages\.py|serving/outputs\.py"),
    ("gRPC client", r"streamer/serving/|grpc/"),
    ("dispatch", r"streamer/scoring/|streamer/latency\.py|streamer/deadline\.py"),
    ("commit", r"kafka/(?:offsets|answered_ranges|split_offsets|positions)\.py|group_coordinator|aiokafka_coordinator"),
    ("produce", r"kafka/(?:sink|producers)\.py|aiokafka/producer"),
    (
        "fetch",
        r"aiokafka/consumer|kafka/(?:source|receipt|delivery|backpressure|backlog|lag|aiokafka_frames|record_batches)\.py|aiokafka/record",
    ),
    ("Kafka connections", r"aiokafka/"),
    ("pipeline", r"streamer/(?!commands|service|lifecycle|__main__)"),
)
STAGES = (
    *("fetch", "decode", "request side", "candidates", "crosses and keys", "cache", "dispatch", "message build"),
    *("gRPC client", "reply parse", "priors", "answer encoding", "produce", "commit", "Kafka connections", "metrics"),
    *("pipeline", REST),
)
"""In the order of a request's path."""
_COMPILED = tuple((stage, re.compile(pattern)) for stage, pattern in RULES)


def stage_of(stack: Stack) -> str:
    """The stage of one stack."""
    return next((stage for stage, pattern in _COMPILED if pattern.search(stack)), REST)


def shares(stacks: Mapping[Stack, int]) -> dict[str, float]:
    """The share of each stage in the samples, in the order of `STAGES`."""
    counts = Counter[str]()
    for stack, count in stacks.items():
        counts[stage_of(stack)] += count
    total = max(1, counts.total())
    return {stage: counts[stage] / total for stage in STAGES}
