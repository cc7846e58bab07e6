"""Assigns a sampled stack of the scorer to a stage of a request. Pure."""

import re
from collections import Counter
from collections.abc import Mapping

Stack = str
"""The functions of a stack, the innermost first: `file:qualified name` joined with ` < `."""
REST = "event loop, sockets and the rest"
# The first rule with a match names the stage, so a rule stands before those of its callers.
RULES: tuple[tuple[str, str], ...] = (
    ("garbage collector", r"^gc callback"),
    ("metrics", r"streamer/metrics\.py|prometheus_client/"),
    ("answer encoding", r"codec\.py:encode_scores|formats/answers"),
    ("decode", r"streamer/codec\.py|streamer/formats/"),
    ("candidates' memo and columns", r"Memo\w*\.|features/memo|_encode_columns|encode_columns"),
    ("crosses", r"encoder\.py:Encoder\._pair_ids|features/cross"),
    ("request side", r"features/(?!encoder)\S* < .*encoder\.py:Encoder\.encode|consent\.py|<generated"),
    ("keys", r"features/encoder\.py"),
    ("cache", r"scoring/cache\.py"),
    ("priors", r"scoring/priors\.py"),
    (
        "message build",
        r"serving/messages\.py:(?:score_request|predict_request)|batching\.py:(?:Batch\.inputs|_concatenate)",
    ),
    ("reply parse", r"serving/messages\.py|serving/outputs\.py"),
    ("gRPC client", r"streamer/serving/|grpc/"),
    ("dispatch", r"streamer/scoring/|streamer/latency\.py|streamer/deadline\.py"),
    (
        "commit",
        r"kafka/(?:offsets|answered_ranges|split_offsets|positions)\.py|consumer/group_coordinator|aiokafka_coordinator",
    ),
    ("produce", r"kafka/(?:sink|producers)\.py|aiokafka/producer|record/\S*(?:build|append)"),
    ("fetch", r"aiokafka/consumer|kafka/(?:source|receipt|delivery|backpressure|backlog|lag)\.py|aiokafka/record"),
    ("Kafka connections", r"aiokafka/"),
    ("pipeline", r"streamer/(?!commands|service|lifecycle|__main__)"),
)
STAGES = (*(stage for stage, _ in RULES), REST)
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
