"""Concurrent runs of a signature become one run of the graph, and each caller gets its own rows."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from sandbox.model_server.lean_tensorflow import lean_tensorflow

with lean_tensorflow():
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    from sandbox.model_server.batch_queue import BatchQueue
    from sandbox.model_server.batching import BatchedGraph, BatchThreads
    from sandbox.model_server.batching_parameters import Batching
    from sandbox.model_server.monitoring import ServerMetrics
    from sandbox.model_server.status import StatusError, not_found

OPTIONS = Batching(max_rows=6, timeout_us=60_000_000, threads=1)


def signature() -> SignatureDef:
    definition = SignatureDef()
    definition.inputs["x"].name, definition.inputs["x"].dtype = "x:0", 1
    definition.outputs["y"].name = "y:0"
    return definition


@dataclass
class FakeGraph:
    """y = 2 x; it keeps the inputs of each run."""

    runs: list[Any] = field(default_factory=list)
    error: Exception | None = None

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str], remaining_s: float) -> list[Any]:
        self.runs.append(feeds["x:0"].tolist())
        if self.error:
            raise self.error
        return [feeds["x:0"] * 2 for _ in fetches]

    def close(self) -> None: ...


def answers(options: Batching, inputs: Sequence[Any], graph: FakeGraph, remaining_s: float = 60.0) -> list[Any]:
    """What concurrent callers get, in the order of their calls: outputs or the error's message."""
    batched = BatchedGraph(graph, [signature()], options, BatchThreads(options.threads, ServerMetrics()))

    def call(x: Any) -> Any:
        try:
            return batched.run({"x:0": np.asarray(x, np.float32)}, ["y:0"], remaining_s)[0].tolist()
        except StatusError as error:
            return str(error)

    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(call, inputs))


def test_callers_share_a_run_and_get_their_own_rows() -> None:
    graph = FakeGraph()
    assert answers(OPTIONS, [[1, 2], [3], [4, 5, 6]], graph) == [[2, 4], [6], [8, 10, 12]]
    assert [sorted(run) for run in graph.runs] == [[1, 2, 3, 4, 5, 6]]


def test_a_batch_is_padded_to_an_allowed_size_with_a_row_of_its_own() -> None:
    graph = FakeGraph()
    options = replace(OPTIONS, timeout_us=0, allowed_sizes=(4, 6))
    assert answers(options, [[1, 2]], graph) == [[2, 4]]
    assert graph.runs == [[1, 2, 1, 1]]


def test_rows_of_different_lengths_are_padded_if_allowed() -> None:
    graph = FakeGraph()
    options = replace(OPTIONS, max_rows=2, pad_variable_length=True)
    assert sorted(answers(options, [[[1, 2, 3]], [[7]]], graph)) == [[[2, 4, 6]], [[14, 14, 14]]]
    assert sorted(graph.runs[0]) == [[1, 2, 3], [7, 7, 7]]
    wrong = answers(replace(options, pad_variable_length=False), [[[1, 2, 3]], [[7]]], FakeGraph())
    assert all(text.startswith("FAILED_PRECONDITION: Tensors with name 'x:0' from different tasks") for text in wrong)


def test_a_large_request_is_split_and_joined_again() -> None:
    graph = FakeGraph()
    options = replace(OPTIONS, timeout_us=0, split_large=True, max_execution_rows=4)
    assert answers(options, [[1, 2, 3, 4, 5, 6]], graph) == [[2, 4, 6, 8, 10, 12]]
    assert graph.runs == [[1, 2, 3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (not_found("gone"), "NOT_FOUND: gone"),
        (ValueError("odd"), "INTERNAL: ValueError: odd"),
    ],
)
def test_an_error_of_the_run_reaches_every_caller_of_the_batch(error: Exception, text: str) -> None:
    assert answers(replace(OPTIONS, max_rows=2), [[1], [2]], FakeGraph(error=error)) == [text, text]


def test_a_call_without_rows_waits_to_its_deadline_and_is_forgotten() -> None:
    graph = FakeGraph()
    assert answers(OPTIONS, [[]], graph, remaining_s=0.01) == ["DEADLINE_EXCEEDED: Deadline Exceeded"]
    assert graph.runs == []


def test_a_call_that_waits_for_rows_ends_with_its_version() -> None:
    threads, queue = BatchThreads(1, ServerMetrics()), BatchQueue[Any](OPTIONS)
    threads.attach(queue, print)
    (task,) = threads.submit(queue, {"x:0": np.empty(0, np.float32)}, 0, math.inf)
    threads.detach([queue])
    assert task.done.is_set()
    assert str(task.error) == "UNAVAILABLE: The version is unloaded"


def test_a_wrong_type_does_not_spoil_the_rows_of_others() -> None:
    batched = BatchedGraph(FakeGraph(), [signature()], replace(OPTIONS, timeout_us=0), BatchThreads(1, ServerMetrics()))
    with pytest.raises(StatusError, match=r"Expects arg\[0\] to be float but int32 is provided"):
        batched.run({"x:0": np.ones(1, np.int32)}, ["y:0"], math.inf)


def test_a_run_that_is_no_signature_is_not_batched() -> None:
    graph = FakeGraph()
    batched = BatchedGraph(graph, [signature()], OPTIONS, BatchThreads(1, ServerMetrics()))
    assert len(batched.run({"x:0": np.ones(3, np.float32)}, ["y:0", "z:0"], math.inf)) == 2
    assert len(graph.runs) == 1


def test_batches_are_counted_and_the_wait_of_each_request_is_measured() -> None:
    metrics = ServerMetrics()
    batched = BatchedGraph(FakeGraph(), [signature()], replace(OPTIONS, timeout_us=0), BatchThreads(1, metrics))
    batched.run({"x:0": np.ones(3, np.float32)}, ["y:0"], math.inf)
    session = ":tensorflow:serving:batching_session"
    lines = metrics.page().splitlines()
    assert f"{session}:wrapped_run_count{{}} 1" in lines
    assert f'{session}:queuing_latency_count{{thread_pool_name="batch_threads"}} 1' in lines
